"""Table 4: the default recipe: learned steps and scales that start from both methods, and distillation.

Run: python experiments/table4_recipe.py [--networks lenet] [--seeds 5]
"""

from rows import Bench, Method

# Liu & Liu, DAC 2018 (arXiv 1805.03054), abstract: the only accuracies of the paper that were read in the source.
PAPER = {"lenet 4": "0.02", "alexnet_cifar 4": "2.3", "resnet20 4": "2.3"}
METHODS = [Method("default recipe")]

BENCH = Bench("table4_recipe", "The default recipe", METHODS, bits=(4, 3, 2, 5, 8), paper=PAPER)

if __name__ == "__main__":
    BENCH.main()
