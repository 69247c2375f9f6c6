"""Table 6: the default recipe with one ingredient removed at a time.

Run: python experiments/table6_ablation.py [--networks lenet] [--seeds 5]
"""

from methods import Method
from printed import Aims
from tables import Bench

METHODS = [
    Method("default recipe"),
    Method("without Neuron Convergence", changes={"regularizer": "none"}),
    Method("without Weight Clustering", changes={"weight_clustering": False}),
    Method("without learned steps", changes={"learned_steps": False}),
    Method("without distillation", changes={"distillation": 0.0}),
]

BENCH = Bench("table6_ablation", "One ingredient removed at a time", METHODS, bits=(4, 3, 2), aims=Aims(subject="default recipe"), brief=True)

if __name__ == "__main__":
    BENCH.main()
