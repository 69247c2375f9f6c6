"""Beside Brevitas: the same floating-point network fine-tuned by memspike and by Brevitas, with the same data, epochs and seeds.

Run: make bench-peers; python experiments/versus_brevitas.py [--networks lenet] [--seeds 5]
Brevitas has an environment of its own (MEMSPIKE_PEERS names its Python; make bench-peers makes one). It is given memspike's loop: optimiser, rates,
moved images, distillation from the floating-point network on whole images, images of as many bits, no dropout, statistics of batch norms taken anew at the
end. Its scales of weights and signals are learned, from where their squared error is least, as ours are (its quantisers "MSE"); from the largest weight and the
largest signal, where its plain ones start, they would have a long way to go. Its accuracy is that of its own forward pass, ours that of the compiled integers.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from floating import Floating, device_name
from methods import BRIEF, SEEDS, Method
from printed import Aims, table_lines
from rows import Row, add, read
from safetensors.torch import save_file
from tables import common_options, floating_of

from memspike.trainer import RECIPES
from memspike.trainer.loop import STEPS_OF_STATISTICS, Stage

TABLE, TITLE = "versus_brevitas", "Beside Brevitas"
OURS = Method("default recipe", brief=True)
THEIRS = "Brevitas, learned scales from least squared error"
TRIED = """Nothing on LeNet stands out from sampling: each way disagrees with fp32 on 8 to 35 images of a seed, in the mean of five. On 40 000 training
images, one seed, by hand, 3/3 bits are right on 99.43 % of the other 20 000 with the default recipe and on 99.42 % with Brevitas. AlexNet's row waits
for Brevitas' own, which takes about seven minutes an epoch on one core of a processor (by hand, beside another training)."""
AIMS = Aims(subject=OURS.name, tried=TRIED)
NETWORKS = ("lenet", "alexnet_cifar")
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--seeds", type=int, help="how many, from 0 on (default: 5 on MNIST, 3 on CIFAR-10)")
    parser.add_argument("--bits", nargs="+", type=int, default=[4, 3, 2])
    common_options(parser)
    parser.add_argument("--print", action="store_true", help="train nothing: print the rows that are there")
    asked = parser.parse_args()
    for network in () if asked.print else asked.networks:
        for seed in range(asked.seeds or SEEDS[network]):
            floating = floating_of(network, seed, asked)
            for bits in asked.bits:
                done = {row.key for row in read(TABLE)}
                if (network, str(bits), str(bits), OURS.name, str(seed)) not in done:
                    add(floating.row(TABLE, OURS, bits)[0])
                if (network, str(bits), str(bits), THEIRS, str(seed)) not in done:
                    add(theirs(floating, bits))
    print(f"# {TITLE}\n")
    for line in table_lines(read(TABLE), AIMS):
        print(line)


def theirs(floating: Floating, bits: int) -> Row:
    """Brevitas' row: the same epochs in its own process."""
    network, seed, folder = floating.network, floating.seed, floating.folder / f"brevitas-{bits}"
    ours = next(row for row in read(TABLE) if row.key == (network, str(bits), str(bits), OURS.name, str(seed)))
    if ours.fp32_digest != floating.digest():
        sys.exit(f"memspike's row of {network}, {bits} bits, seed {seed} started from another floating-point network: delete it and train both")
    recipe = RECIPES[network]
    epochs = BRIEF[network] + recipe.convergence_epochs
    plain = Stage("counts", epochs, recipe.finetune_learning_rate)
    train, test = floating.data.train, floating.data.test
    shift = recipe.shift if recipe.shift is not None else -(-train.images.shape[-1] // 16)
    wanted = {
        "network": network, "bits": bits, "epochs": epochs, "batch_size": recipe.batch_size, "learning_rate": recipe.finetune_learning_rate,
        "distillation": recipe.distillation, "temperature": plain.temperature, "warmup": plain.warmup, "shift": shift, "flip": recipe.flip,
        "num_statistics": STEPS_OF_STATISTICS, "seed": seed,
        "state": str(folder / "state.safetensors"), "data": str(folder / "data.npz"), "out": str(folder / "predictions.npy"),
    }  # fmt: skip
    python = os.environ.get("MEMSPIKE_PEERS", str(HERE.parent / ".venv-peers/bin/python"))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": ""}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "alone.lock"):
        np.savez(folder / "data.npz", images=train.images, labels=train.labels, test=test.images)
        save_file({name: value.contiguous() for name, value in floating.state.items()}, folder / "state.safetensors")
        answer = _trained(python, wanted, environment)
        right, was_right = (found == test.labels for found in (np.load(folder / "predictions.npy"), floating.predictions))
    return replace(
        ours, method=THEIRS, accuracy_program=float(right.mean()), changed_predictions="", won=int((right & ~was_right).sum()),
        lost=int((was_right & ~right).sum()), seconds=answer["seconds"], precision="fp32", device=device_name("cpu"),
        version=f"brevitas {answer['version']}", program_digest="",
    )  # fmt: skip


def _trained(python: str, wanted: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """What Brevitas' process answers when it has trained."""
    try:
        done = subprocess.run([python, str(HERE / "peers/brevitas_training.py"), json.dumps(wanted)], stdout=subprocess.PIPE, text=True, env=environment)
    except FileNotFoundError:
        sys.exit(f"Brevitas was not found: there is no {python}. Run `make bench-peers`, or name a Python that has it in MEMSPIKE_PEERS.")
    if done.returncode:
        sys.exit(f"Brevitas failed, see above: {python}")
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
