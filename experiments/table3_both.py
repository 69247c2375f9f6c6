"""Table 3: Neuron Convergence and Weight Clustering together, fine-tuned, after Liu 2018; with and without.

Run: python experiments/table3_both.py [--networks lenet] [--seeds 5]
"""

from methods import Method
from printed import Aims
from tables import Bench

# Liu & Liu, DAC 2018 (arXiv 1805.03054), abstract: the only accuracies of the paper that were read in the source.
PAPER = {"lenet 4": "0.02", "alexnet_cifar 4": "2.3", "resnet20 4": "2.3"}
METHODS = [
    Method("direct rounding", kind="direct"),
    Method("rounded, least squared error", kind="fitted"),
    Method("Neuron Convergence and Weight Clustering", changes={"learned_steps": False, "distillation": 0.0}),
]

AIMS = Aims(PAPER, subject=METHODS[-1].name)
BENCH = Bench("table3_both", "Both methods of Liu 2018", METHODS, bits=(5, 4, 3, 2), aims=AIMS, brief=True)

if __name__ == "__main__":
    BENCH.main()
