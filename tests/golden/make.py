"""Write the golden texts: the programs of three small networks made by rule, so that every change of meaning shows as a diff."""

from pathlib import Path

import numpy as np

from memspike.compiler import compile
from memspike.integer import Integers, IntType
from memspike.network import QuantizedLayer, QuantizedNetwork
from memspike.program import Program

HERE = Path(__file__).parent
COMMAND = "# made by: python tests/golden/make.py\n"
U4, I4, I5 = IntType(4), IntType(4, signed=True), IntType(5, signed=True)


def programs() -> dict[str, Program]:
    """The golden programs by file name."""
    return {
        "lenet": compile(_lenet()),
        "lenet_digital": compile(_lenet(), partial_sums="digital", rows=256),
        "residual": compile(_residual()),
    }


def _weights(*shape: int) -> Integers:
    """Weights from -7 to 7 by rule: no random generator that another release of numpy could change."""
    return (np.arange(np.prod(shape), dtype=np.int64) * 37 % 101 % 15 - 7).reshape(shape)


def _layer(name: str, kind: str, read: str, *shape: int, type: IntType | None = U4, step: float = 0.5, **numbers: int | tuple[int, int]) -> QuantizedLayer:
    k = np.arange(shape[0])
    gain, offset = (np.ones(shape[0]) if type is None else 1 + k % 3 / 4 - 2.5 * (k % 5 == 4)), (k % 7 - 3) / 8
    return QuantizedLayer(name, kind, (read,), type, step, _weights(*shape), I4, 2.0**-5, gain, offset, **numbers)  # pyright: ignore[reportArgumentType]


def _lenet() -> QuantizedNetwork:
    layers = (
        _layer("conv1", "conv2d", "image", 20, 1, 5, 5, step=0.3),
        QuantizedLayer("pool1", "max_pool", ("conv1",), kernel=(2, 2), stride=(2, 2)),
        _layer("conv2", "conv2d", "pool1", 50, 20, 5, 5, step=1.1),
        QuantizedLayer("pool2", "max_pool", ("conv2",), kernel=(2, 2), stride=(2, 2)),
        QuantizedLayer("flat", "flatten", ("pool2",)),
        _layer("fc1", "dense", "flat", 500, 800, step=3.7),
        _layer("fc2", "dense", "fc1", 10, 500, type=None),
    )
    return QuantizedNetwork("lenet", (1, 28, 28), U4, 1 / 15, layers)


def _residual() -> QuantizedNetwork:
    layers = (
        _layer("stem", "conv2d", "image", 8, 3, 3, 3, padding=(1, 1)),
        _layer("depthwise", "conv2d", "stem", 8, 1, 3, 3, step=0.25, padding=(1, 1), groups=8),
        _layer("pointwise", "conv2d", "depthwise", 8, 8, 1, 1, type=I5),
        QuantizedLayer("skip", "add", ("pointwise", "stem"), U4),
        QuantizedLayer("joined", "concat", ("skip", "stem")),
        QuantizedLayer("pool", "average_pool", ("joined",), U4, 0.125, kernel=(8, 8), stride=(8, 8)),
        QuantizedLayer("flat", "flatten", ("pool",)),
        _layer("fc", "dense", "flat", 10, 16, type=None),
    )
    return QuantizedNetwork("residual", (3, 8, 8), U4, 1 / 15, layers)


if __name__ == "__main__":
    for name, program in programs().items():
        (HERE / f"{name}.program").write_text(COMMAND + f"# digest: {program.digest()}\n" + str(program), encoding="utf-8")
