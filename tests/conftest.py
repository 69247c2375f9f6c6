"""What every test shares: one thread per worker, so that two workers use two cores; and no law that fails because a machine is slow."""

import os

from hypothesis import settings

# Before torch is imported, and inherited by the command lines that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("memspike", deadline=None)
settings.load_profile("memspike")
