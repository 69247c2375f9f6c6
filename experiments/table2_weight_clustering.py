"""Table 2: Weight Clustering alone: weights of 5 to 2 bits, activations in floating point, with and without.

Run: python experiments/table2_weight_clustering.py [--networks lenet] [--seeds 5]
"""

from methods import Method
from printed import Aims
from tables import Bench

ALONE = {"learned_steps": False, "distillation": 0.0, "regularizer": "none"}
METHODS = [
    Method("direct rounding", kind="direct", activation=False),
    Method("rounded, least squared error", kind="fitted", activation=False),
    Method("Weight Clustering", changes=ALONE, activation=False),
    Method("fine-tuned, largest weight on the largest integer", changes={**ALONE, "weight_clustering": False}, activation=False),
]

AIMS = Aims(subject="Weight Clustering")
BENCH = Bench("table2_weight_clustering", "Weight Clustering alone", METHODS, bits=(5, 4, 3, 2), aims=AIMS, brief=True)

if __name__ == "__main__":
    BENCH.main()
