"""What every test shares: one thread per worker, so that two workers use two cores."""

import os

# Before torch is imported, and inherited by the command lines that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
