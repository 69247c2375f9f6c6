"""Recipe: how long and how a network is trained, and which parts of the method take part."""

import math
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any, Literal, get_args

from memspike import integer
from memspike.errors import TrainingError

Precision = Literal["auto", "bf16", "fp32"]
Optimizer = Literal["adamw", "sgd"]
WEIGHT_DECAY = 1e-2  # AdamW's own
Regularizer = Literal["neuron_convergence", "l1", "truncated_l1", "none"]


def whole(name: str, value: Any) -> int:
    """The whole number that was given as `name`, numpy's kinds of it too; raises TrainingError for anything else."""
    if (number := integer.whole(value)) is None:
        raise TrainingError(f"{name} must be a whole number, got {value!r}")
    return number


@dataclass(frozen=True, slots=True)
class Recipe:
    """The default recipe; `Recipe.liu2018()` is the 2018 paper's.

    First `epochs` in floating point (none when weights are brought along), by the `optimizer`: "adamw", where weights decay by `weight_decay` decoupled from
    the gradient, or "sgd" with Nesterov's momentum of 0.9, where the decay is part of it (5e-4 and a `learning_rate` of 0.1 to 0.2 are usual). Then
    `convergence_epochs` with Neuron Convergence, then `finetune_epochs` in counts. The `regularizer` pulls signals into range first ("none" skips that
    stage); `weight_clustering` starts from the best linear centres instead of the largest weight; `learned_steps` trains steps and scales (Esser et al.
    2020), else they stay as found; `distillation` is the weight of following the floating-point network's scores. Images are moved by up to `shift`
    pixels (None: a sixteenth of the image, rounded up) and mirrored if `flip`. `precision` is that of products while training: "bf16", "fp32", or
    "auto", bf16 where the processor has it; whatever it is, evaluation, freezing and the program are exact.
    """

    epochs: int = 12
    convergence_epochs: int = 1
    finetune_epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 2e-3
    convergence_learning_rate: float = 5e-4
    finetune_learning_rate: float = 1e-3
    convergence: float = 1.0
    regularizer: Regularizer = "neuron_convergence"
    weight_clustering: bool = True
    learned_steps: bool = True
    distillation: float = 0.5
    shift: int | None = None
    flip: bool = False
    precision: Precision = "auto"
    weight_decay: float = field(default=WEIGHT_DECAY, repr=False)
    optimizer: Optimizer = field(default="adamw", repr=False)

    def __post_init__(self) -> None:
        for name in ("epochs", "convergence_epochs", "finetune_epochs", "batch_size", *["shift"] * (self.shift is not None)):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        for name in ("epochs", "convergence_epochs", "finetune_epochs"):
            if getattr(self, name) < 0:
                raise TrainingError(f"{name} must be zero or more, got {getattr(self, name)}")
        for name in ("weight_clustering", "learned_steps", "flip"):
            if not isinstance(getattr(self, name), bool):
                raise TrainingError(f"{name} is True or False, got {getattr(self, name)!r}")
        for name in ("learning_rate", "finetune_learning_rate", "convergence_learning_rate", "convergence", "distillation", "weight_decay"):
            if not isinstance(getattr(self, name), Real):
                raise TrainingError(f"{name} must be a number, got {getattr(self, name)!r}")
        for name in ("batch_size", "learning_rate", "finetune_learning_rate", "convergence_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise TrainingError(f"{name} must be a finite number above zero, got {getattr(self, name)}")
        for name in ("weight_decay", "convergence"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainingError(f"{name} must be a finite number, zero or more, got {getattr(self, name)}")
        if self.shift is not None and self.shift < 0:
            raise TrainingError(f"shift must be zero or more pixels, got {self.shift}")
        for name, known in (("precision", get_args(Precision)), ("regularizer", get_args(Regularizer)), ("optimizer", get_args(Optimizer))):
            if getattr(self, name) not in known:
                raise TrainingError(f"unknown {name} {getattr(self, name)!r}", cure=f"known are: {', '.join(known)}")
        if not 0 <= self.distillation <= 1:
            raise TrainingError(f"distillation must lie between 0 and 1, got {self.distillation}")

    @classmethod
    def liu2018(cls, **changes: Any) -> "Recipe":
        """Neuron Convergence and Weight Clustering alone, fine-tuned: no learned steps, no distillation."""
        values: dict[str, Any] = {"learned_steps": False, "distillation": 0.0, **changes}
        return cls(**values)

    def describe(self) -> dict[str, Any]:
        return asdict(self)


# What suits the reference networks; anything else starts from Recipe().
RECIPES: dict[str, Recipe] = {
    "digits_net": Recipe(epochs=30, convergence_epochs=4, finetune_epochs=20, batch_size=64),
    "lenet": Recipe(),
    "alexnet_cifar": Recipe(epochs=30, finetune_epochs=14, flip=True),
    "resnet20": Recipe(epochs=40, finetune_epochs=14, learning_rate=4e-3, weight_decay=0.2, flip=True),
}
