"""One training step in counts against the fp32 step: eager, compiled, and Brevitas'.

Ours is measured as the recipe has it (bfloat16 products where the processor has them) and with float32 products, as the fp32 step has; then beside a
teacher, as the recipe has it too, and in floating point, as what comes before counts. Peers have no teacher; without goals.
Goals: at most 1.25 times the fp32 eager step, at most 1.0 times when compiled; LeNet and ResNet-20, batches of 128, 4 bits.
"""

import argparse
import copy
from collections.abc import Callable

import numpy as np
import torch
from measure import Row, peer, publish, rounds, seconds_of
from subjects import SHAPES, TITLES, module, training
from torch import Tensor, nn
from torch.nn import functional as F

from memspike.trainer import Recipe
from memspike.trainer.net import Net

NAME = "training"
BATCH, BITS = 128, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=1, help="steps in a round; few, so that what slows the machine for a while slows all systems alike")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes a C++ compiler and half a minute a network")
    asked = parser.parse_args()
    rows, notes = list[Row](), list[str]()
    for threads in asked.threads:
        torch.set_num_threads(threads)
        for name in ("lenet", "resnet20"):
            case = f"{TITLES[name]}, batch {BATCH}, {threads} thread{'s' * (threads > 1)}"
            numbers = np.random.default_rng(0).integers(0, 256, (BATCH, *SHAPES[name]), dtype=np.uint8)
            images, labels = torch.from_numpy(numbers), torch.arange(BATCH) % 10
            pixels = (images.to(torch.float32) / 255).to(memory_format=torch.channels_last)
            trained = training(name, SHAPES[name], BITS, recipe=Recipe(epochs=0, convergence_epochs=0, finetune_epochs=0))
            floating = trained.floating()
            counts = trained.counts(floating)
            teacher = floating.teacher()
            steps = {
                "fp32 torch, eager": _step(module(name), pixels, labels),
                "memspike, eager": _step(_copy(counts, counts.is_mixed), images, labels),
                "memspike, eager, float32 products": _step(_copy(counts, False), images, labels),
                "memspike, eager, with a teacher": _step(_copy(counts, counts.is_mixed), images, labels, teacher),
                "memspike, eager, in floating point": _step(_copy(floating, floating.is_mixed), images, labels),
            }
            if not asked.no_compile:
                torch.compiler.reset()  # or the later cases find that torch has compiled this code too often, and run eagerly
                steps["fp32 torch, compiled"] = _step(torch.compile(module(name)), pixels, labels)
                steps["memspike, compiled"] = _step(torch.compile(_copy(counts, counts.is_mixed)), images, labels)
                followed = torch.compile(_copy(counts, counts.is_mixed))
                steps["memspike, compiled, with a teacher"] = _step(followed, images, labels, torch.compile(teacher))
                steps["memspike, compiled, in floating point"] = _step(torch.compile(_copy(floating, floating.is_mixed)), images, labels)
            systems = {system: lambda step=step: seconds_of(lambda: [step() for _ in range(asked.steps)]) for system, step in steps.items()}
            goals = {"memspike, eager": "ratio <= 1.25", "memspike, eager, float32 products": "ratio <= 1.25", "memspike, compiled": "ratio <= 1.0"}
            for system, (seconds, *ratios) in rounds(systems, "fp32 torch, eager", asked.rounds).items():
                rows.append(Row(NAME, case, system, 1000 * seconds / asked.steps, "ms/step", *ratios, goals.get(system, "")))
            wanted = {"network": name, "bits": BITS, "batch": BATCH, "steps": asked.steps, "rounds": asked.rounds}
            answer = peer("brevitas_training.py", wanted, None)
            if isinstance(answer, str):
                notes.append(f"Brevitas {answer} (make bench-peers)")
                continue
            rows.append(Row(NAME, case, "Brevitas", 1000 * answer["seconds_per_step"], "ms/step", answer["ratio"], answer["low"], answer["high"]))
    publish(rows, notes)


def _copy(net: Net, is_mixed: bool) -> Net:
    """The same network, with products in bfloat16 or in float32."""
    found = copy.deepcopy(net)
    found.is_mixed = is_mixed
    return found


def _step(net: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, teacher: Callable[[Tensor], Tensor] | None = None) -> Callable[[], None]:
    assert isinstance(net, nn.Module)
    net.train()
    optimizer = torch.optim.AdamW([parameter for parameter in net.parameters() if parameter.requires_grad], lr=1e-4, fused=True)

    def step() -> None:
        scores = net(images)
        loss = F.cross_entropy(scores, labels)
        if teacher is not None:
            with torch.no_grad():
                taught = F.log_softmax(teacher(images), dim=1)
            loss = loss + F.kl_div(F.log_softmax(scores, dim=1), taught, reduction="batchmean", log_target=True)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
