"""Table 1: Neuron Convergence alone: activations of 5 to 2 bits, weights in floating point, with, without, and against other regularisers.

Run: python experiments/table1_neuron_convergence.py [--networks lenet] [--seeds 5]
"""

from methods import Method
from printed import Aims
from tables import Bench

ALONE = {"learned_steps": False, "distillation": 0.0}
METHODS = [
    Method("direct rounding", kind="direct", weight=False),
    Method("rounded, least squared error", kind="fitted", weight=False),
    *(
        Method(title, changes={**ALONE, "regularizer": name}, weight=False)
        for title, name in (
            ("Neuron Convergence", "neuron_convergence"),
            ("l1", "l1"),
            ("truncated l1", "truncated_l1"),
            ("no regulariser", "none"),
        )
    ),
]

TRIED = """A regulariser acts in the first of the further epochs, still in floating point; the others fine-tune in counts. On MNIST at 4 bits no such way
stands out from another: each disagrees with fp32 on some twenty images of a seed, so that its loss is uncertain by 0.04 points."""
AIMS = Aims(subject="Neuron Convergence", tried=TRIED)
BENCH = Bench("table1_neuron_convergence", "Neuron Convergence alone", METHODS, bits=(5, 4, 3, 2), aims=AIMS, brief=True)

if __name__ == "__main__":
    BENCH.main()
