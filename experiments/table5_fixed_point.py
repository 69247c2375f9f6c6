"""Table 5: 8-bit dynamic fixed point (Gysel et al., Ristretto), the design that is replaced.

Run: python experiments/table5_fixed_point.py [--networks lenet] [--seeds 5]
"""

from methods import Method
from tables import Bench

METHODS = [Method("dynamic fixed point", kind="dynamic_fixed_point")]

BENCH = Bench("table5_fixed_point", "8-bit dynamic fixed point", METHODS, bits=(8,))

if __name__ == "__main__":
    BENCH.main()
