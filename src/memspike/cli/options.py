"""Options that several verbs share, and the order that they make."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspike.cli.analog import seconds
from memspike.cli.taking import takes
from memspike.errors import MemspikeError

if TYPE_CHECKING:
    from memspike.line import Order


class FidelityName(StrEnum):
    """What a simulation computes."""

    ideal = "ideal"
    spike = "spike"
    analog = "analog"


class EncoderName(StrEnum):
    """How counts become spikes."""

    even = "even"
    burst = "burst"
    random = "random"


class PartialSumsName(StrEnum):
    """How the tiles of one column are added."""

    analog = "analog"
    digital = "digital"


class NeuronName(StrEnum):
    """The neuron circuits."""

    up_down = "up_down"
    two_phase = "two_phase"
    dual = "dual"
    fire_only = "fire_only"


class MethodName(StrEnum):
    """The recipes."""

    default = "default"
    liu2018 = "liu2018"


class GridName(StrEnum):
    """The weight grids."""

    symmetric = "symmetric"
    liu2018 = "liu2018"


MAX_SEED = 2**62  # what generators of random numbers take, and room for as many chips
Model = Annotated[
    str,
    typer.Option(
        rich_help_panel="Network and data", help="Reference network (digits_net, lenet, alexnet_cifar, resnet20) or your own as package.module:function."
    ),
]
Data = Annotated[
    str, typer.Option(rich_help_panel="Network and data", help="digits, a hub data set (ylecun/mnist), a folder of parquet files or images, or an .npz file.")
]
Bits = Annotated[int, typer.Option(min=2, max=8, rich_help_panel="Bits", help="Bits of every activation and weight.")]
ActivationBits = Annotated[int | None, typer.Option(min=2, max=8, rich_help_panel="Bits", help="Bits of activations, where they differ from --bits.")]
WeightBits = Annotated[int | None, typer.Option(min=2, max=8, rich_help_panel="Bits", help="Bits of weights, where they differ from --bits.")]
ImageBits = Annotated[int | None, typer.Option(min=2, max=8, rich_help_panel="Bits", help="Bits of the image; as many as an activation unless given.")]
LayerBits = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAYER=A/W", rich_help_panel="Bits", help="Bits of one layer (or pattern), as in --layer-bits 'fc1=8/6' or 'conv*=/3'. May be repeated."
    ),
]
Dither = Annotated[
    int,
    typer.Option(
        metavar="0|1|2|4", rich_help_panel="Bits", help="Round pixels to counts by an ordered dither over so many pixels and all channels; 0: half up."
    ),
]
ImageLines = Annotated[
    int, typer.Option(min=1, rich_help_panel="Bits", help="Lines that carry a pixel, each a count of --image-bits: more levels in the same window, more rows.")
]
ImageRange = Annotated[
    str,
    typer.Option(
        metavar="LOW-HIGH|fit", rich_help_panel="Bits", help="Pixel values (0 to 255) that count 0 and most; fit: where counts err least on training images."
    ),
]
Grid = Annotated[GridName, typer.Option(rich_help_panel="Bits", help="Weight grid: symmetric (up to 2^(N-1)-1) or liu2018 (up to 2^(N-1)).")]
Weights = Annotated[
    Path | None, typer.Option(rich_help_panel="Network and data", help="State dict to start from: .safetensors, or a torch file of tensors only.")
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        rich_help_panel="Network and data",
        help="Per channel, if the weights expect (pixel / 255 - mean) / std; folded into the first layer, whose zero padding then means black.",
    ),
]
Std = Annotated[str | None, typer.Option(metavar="A,B,C", rich_help_panel="Network and data", help="Per channel, see --mean.")]
Method = Annotated[
    MethodName, typer.Option(rich_help_panel="Training", help="default: learned steps started from the paper's two methods; liu2018: those two alone.")
]
Epochs = Annotated[int | None, typer.Option(min=0, rich_help_panel="Training", help="Epochs in floating point; the model's recipe unless given, as all below.")]
ConvergenceEpochs = Annotated[int | None, typer.Option(min=0, rich_help_panel="Training", help="Epochs with Neuron Convergence.")]
FinetuneEpochs = Annotated[int | None, typer.Option(min=0, rich_help_panel="Training", help="Epochs in counts.")]
BatchSize = Annotated[int | None, typer.Option(min=1, rich_help_panel="Training", help="Images per training step.")]
LearningRate = Annotated[float | None, typer.Option(min=1e-8, rich_help_panel="Training", help="Highest learning rate in floating point.")]
ForCells = Annotated[
    str | None,
    typer.Option("--for-cells", metavar="DEVICE", rich_help_panel="Training", help="Train for these memristor cells, by name or .toml file."),
]
ForTime = Annotated[
    str | None, typer.Option("--for-time", metavar="TIME", rich_help_panel="Training", help="Train for so long after writing, as 1d; at once unless given.")
]
HardeningEpochs = Annotated[int | None, typer.Option(min=0, rich_help_panel="Training", help="Further epochs with --for-cells; 3 unless given.")]
Flip = Annotated[bool | None, typer.Option("--flip/--no-flip", rich_help_panel="Training", help="Mirror training images at random.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, rich_help_panel="Training", help="Same seed, same result.")]
DeviceName = Annotated[str, typer.Option("--device", rich_help_panel="Training", help="Processor: cpu or cuda.")]
Compiled = Annotated[
    bool, typer.Option("--compile", rich_help_panel="Training", help="Compile the training step (torch.compile): a minute or more at first, then faster.")
]
SimulateOn = Annotated[str, typer.Option("--device", help="Processor: cpu; or cuda, for fidelities ideal and spike, in the same integers.")]
ChipName = Annotated[str, typer.Option("--chip", help="Chip: predictive, liu2018, or a .toml file (see memspike chips).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def training_order(
    *, model: Model = "digits_net", data: Data = "digits", bits: Bits = 4, activation_bits: ActivationBits = None, weight_bits: WeightBits = None,
    image_bits: ImageBits = None, dither: Dither = 0, image_lines: ImageLines = 1, image_range: ImageRange = "0-255", layer_bits: LayerBits = None,
    grid: Grid = GridName.symmetric, weights: Weights = None, mean: Mean = None, std: Std = None, method: Method = MethodName.default,
    epochs: Epochs = None, convergence_epochs: ConvergenceEpochs = None, finetune_epochs: FinetuneEpochs = None, batch_size: BatchSize = None,
    learning_rate: LearningRate = None, flip: Flip = None, for_cells: ForCells = None, for_time: ForTime = None,
    hardening_epochs: HardeningEpochs = None, seed: Seed = 0, device: DeviceName = "cpu", compiled: Compiled = False,
) -> "Order":  # fmt: skip
    """The part of an order that `run` and `train` share; its parameters are their options."""
    from memspike.line import Order

    if hardening_epochs is not None and for_cells is None:
        raise MemspikeError("--hardening-epochs are epochs for memristor cells, and none are named", cure="add --for-cells")
    for option, value in (("--epochs", epochs), ("--learning-rate", learning_rate)):
        if value and weights is not None:
            raise MemspikeError(f"{option} is for training in floating point, which --weights replaces", cure="leave one of them out")
    changes = {
        "epochs": epochs, "convergence_epochs": convergence_epochs, "finetune_epochs": finetune_epochs,
        "batch_size": batch_size, "learning_rate": learning_rate, "flip": flip,
    }  # fmt: skip
    return Order(
        model=model, data=data, activation_bits=activation_bits or bits, weight_bits=weight_bits or bits, image_bits=image_bits, dither=dither,
        image_lines=image_lines, image_range=_range(image_range), layer_bits=_layer_bits(layer_bits), grid=grid.value,
        weights=str(weights) if weights else None, mean=_numbers(mean, "--mean"), std=_numbers(std, "--std"), method=method.value,
        changes={k: v for k, v in changes.items() if v is not None}, seed=seed, device=device, cells=for_cells, time=seconds(for_time),
        hardening_epochs=Order().hardening_epochs if hardening_epochs is None else hardening_epochs, compiled=compiled,
    )  # fmt: skip


takes_training_options = takes(training_order, "order")


def _layer_bits(texts: list[str] | None) -> tuple[tuple[str, int | None, int | None], ...]:
    found: list[tuple[str, int | None, int | None]] = []
    for text in texts or []:
        pattern, equals, both = text.rpartition("=")
        activation, slash, weight = both.partition("/")
        if not equals or not slash:
            raise MemspikeError(f"--layer-bits {text!r}; expected LAYER=ACTIVATION/WEIGHT", cure="as in fc1=8/6, or conv1=/3 for weights alone")
        if both == "/":
            raise MemspikeError(f"--layer-bits {text!r} gives no bits", cure="as in fc1=8/6, or conv1=/3 for weights alone")
        number_of = {part: integer(part, "--layer-bits") if part else None for part in (activation, weight)}
        found.append((pattern, number_of[activation], number_of[weight]))
    return tuple(found)


def _range(text: str) -> tuple[int, int] | None:
    if text == "fit":
        return None
    low, _, high = text.partition("-")
    if not (low.isdecimal() and high.isdecimal()):
        raise MemspikeError(f"--image-range {text!r}; expected LOW-HIGH or fit", cure="as in 39-220, within 0 to 255")
    return integer(low, "--image-range"), integer(high, "--image-range")


def integer(text: str, option: str) -> int:
    """The whole number that a text is; raises MemspikeError naming the option when it is none."""
    if not text.isdecimal() or len(text) > 9:
        raise MemspikeError(f"{option}: {text[:40]!r} is no whole number{' of at most nine digits' * text.isdecimal()}")
    return int(text)


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise MemspikeError(f"{option} {text!r}; expected numbers with commas between", cure="as in 0.49,0.48,0.45") from error
