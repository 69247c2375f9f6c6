"""Table 5: 8-bit dynamic fixed point (Gysel et al., Ristretto), the design that is replaced.

Run: python experiments/table5_fixed_point.py [--networks lenet] [--seeds 5]
"""

from methods import Method
from printed import Aims
from tables import Bench

METHODS = [Method("dynamic fixed point", kind="dynamic_fixed_point")]

TRIED = "ResNet-20's rows are of the recipe of before (weight decay 0.01, half the rate), those of the other tables of today's."
BENCH = Bench("table5_fixed_point", "8-bit dynamic fixed point", METHODS, bits=(8,), aims=Aims(tried=TRIED))

if __name__ == "__main__":
    BENCH.main()
