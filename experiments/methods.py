"""What the tables set beside each other: networks, seeds, epochs, and ways from floating point to few bits."""

from dataclasses import dataclass, field, replace
from typing import Any

from memspike.pixels import PixelCode
from memspike.trainer import RECIPES, Bits, Recipe

DATA = {"lenet": ("mnist", "ylecun/mnist"), "alexnet_cifar": ("cifar10", "uoft-cs/cifar10"), "resnet20": ("cifar10", "uoft-cs/cifar10")}
SEEDS = {"lenet": 5, "alexnet_cifar": 3, "resnet20": 3}
# Tables that set ways beside each other fine-tune for fewer epochs than the recipe, the same for every way: seeds tell more there than epochs.
BRIEF = {"lenet": 3, "alexnet_cifar": 5, "resnet20": 6}
TITLES = {"lenet": "LeNet on MNIST", "alexnet_cifar": "AlexNet on CIFAR-10", "resnet20": "ResNet-20 on CIFAR-10"}


@dataclass(frozen=True)
class Method:
    """A way from the floating-point network to few bits: a training of `changes` to the network's recipe, or none: `kind` direct (the largest value on the
    largest count), fitted (steps and scales of least squared error, where training starts), dynamic_fixed_point.

    `activation` and `weight` say which halves are quantised; a half that is not stays in floating point, and there is no program then. `image` are bits of
    the image's own, its `pixels` counted so, with `fit` in the range that suits the training images. A `brief` one fine-tunes for BRIEF epochs instead of
    the recipe's. It is tried on its `networks`, at `only` these bits if any are named.
    """

    name: str
    kind: str = "trained"
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    activation: bool = True
    weight: bool = True
    image: int | None = None
    pixels: PixelCode = PixelCode()
    fit: bool = False
    brief: bool = False
    networks: tuple[str, ...] = tuple(DATA)
    only: tuple[int, ...] = ()

    def folder(self, bits: int) -> str:
        """Where its checkpoints go, beside those of other methods and bits."""
        half = "" if self.activation and self.weight else "-activations" if self.activation else "-weights"
        return f"{self.name}-{bits}{half}{'-brief' * self.brief}".replace(" ", "-").replace(",", "")

    def recipe(self, network: str) -> Recipe:
        """The network's recipe with this method's changes. Without a regulariser the epochs of its stage are fine-tuning too: all ways take equally many."""
        recipe = RECIPES[network]
        if self.kind == "fitted":
            return replace(recipe, regularizer="none", convergence_epochs=0, finetune_epochs=0)
        recipe = replace(recipe, finetune_epochs=BRIEF[network] if self.brief else recipe.finetune_epochs, **self.changes)
        return replace(recipe, finetune_epochs=recipe.finetune_epochs + recipe.convergence_epochs) if recipe.regularizer == "none" else recipe

    def epochs(self, network: str) -> int:
        """How many epochs after the floating-point training, and as many as the control is given."""
        recipe = self.recipe(network)
        pulled = recipe.convergence_epochs if recipe.regularizer != "none" and self.activation else 0
        return recipe.finetune_epochs + pulled if self.kind == "trained" else 0

    def bits(self, number: int) -> Bits:
        return Bits(number if self.activation else None, number if self.weight else None, self.image, pixels=self.pixels)
