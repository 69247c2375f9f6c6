"""What there is: a file, the chips and cells, the zoo's programs, this machine."""

from typing import Annotated

import typer
from rich.table import Table

from memspike.cli.speech import speech, two_columns


def show(file: Annotated[str, typer.Argument(help="Any file that memspike wrote, or a program of memspike zoo by name.")]) -> None:
    """Say what a file holds; a program is printed as text."""
    from memspike import storage, zoo
    from memspike.program import Program

    thing = zoo.load_program(file) if file in zoo.program_names() else storage.load(file)
    print(thing if isinstance(thing, Program) else repr(thing), end="" if isinstance(thing, Program) else "\n")


def chips() -> None:
    """List the chips and memristor cells that come with memspike."""
    from collections import Counter

    from memspike import storage
    from memspike.units import si

    table = Table("chip", "what it is", "crossbar", "numbers by standing", box=None)
    for name in storage.chip_names():
        chip = storage.load_chip(name)
        standings = Counter(quantity.standing for quantity in chip.quantities().values()).most_common()
        table.add_row(name, chip.title, f"{chip.crossbar.rows} x {chip.crossbar.columns}", ", ".join(f"{n} {standing}" for standing, n in standings))
    speech.out().print(table)
    cells = Table("cells", "range", "levels", "imperfections", box=None)
    for name in storage.device_names():
        device = storage.load_device(name)
        laws = [
            f"{what}: {law.model}" for what, law in (("programming", device.programming), ("drift", device.drift), ("temperature", device.temperature)) if law
        ]
        laws += [f"stuck: {100 * device.stuck.low.value:.3g} % low, {100 * device.stuck.high.value:.3g} % high"] if device.stuck else []
        laws += [f"read noise: {100 * device.read_noise.value:.3g} %"] if device.read_noise else []
        cells.add_row(name, f"{si(device.g_min.value, 'S')} to {si(device.g_max.value, 'S')}", str(device.levels), ", ".join(laws) or "none")
    speech.out().print()
    speech.out().print(cells)


def zoo_() -> None:
    """List the trained programs that come with memspike, for simulate, map and show."""
    from memspike import zoo

    table = Table("program", "data", "bits", "seed", "fp32", "fp32, same further epochs", "program, all test images", "digest", box=None)
    for name in zoo.program_names():
        program = zoo.load_program(name)
        about = program.notes["zoo"]
        bits = f"{about['activation_bits']} / {about['weight_bits']}"
        accuracies = (f"{about[key]:.2%}" for key in ("accuracy_fp32", "accuracy_fp32_control", "accuracy_program"))
        table.add_row(name, about["data"], bits, str(about["seed"]), *accuracies, program.digest()[:16])
    speech.out().print(table)
    speech.out().print("Trained by the default recipe from the first seed, none chosen by its result; recipe, data and torch are in the notes of each.")


def doctor() -> None:
    """Print versions and what this machine offers, for a bug report."""
    import platform
    from importlib import metadata

    from memspike.trainer import torch_build

    rows = [("memspike", metadata.version("memspike")), ("python", platform.python_version()), ("platform", platform.platform()), *torch_build().items()]
    try:
        rows.append(("datasets", metadata.version("datasets")))
    except metadata.PackageNotFoundError:
        rows.append(("datasets", "not installed; pip install 'memspike[data]' reads hub data sets and parquet"))
    speech.out().print(two_columns(rows))
