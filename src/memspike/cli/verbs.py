"""The verbs: `run` walks the whole line, each other one takes a step on saved files."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from memspike.cli.analog import RealChips, seconds, times, ways
from memspike.cli.app import app
from memspike.cli.options import (
    MAX_SEED,
    AsJson,
    ChipName,
    Data,
    EncoderName,
    FidelityName,
    NeuronName,
    PartialSumsName,
    SimulateOn,
    integer,
    takes_training_options,
)  # fmt: skip
from memspike.cli.speech import Listener, speech, tell, two_columns
from memspike.cli.taking import takes
from memspike.errors import CheckFailed, DataError, FileRefused, MemspikeError

if TYPE_CHECKING:
    from memspike.datasets import Dataset
    from memspike.line import Order
    from memspike.montecarlo import Design
    from memspike.program import Program


@app.command(
    epilog="Examples:\n\n  memspike run\n\n  memspike run --model lenet --data path/to/mnist --bits 4 --out runs/lenet\n\n"
    "  memspike run --model mypkg.nets:make_net --weights net.safetensors --data images.npz"
)
@takes_training_options
def run(
    order: "Order",
    chip: ChipName = "predictive",
    also: Annotated[list[str] | None, typer.Option(metavar="CHIP", help="A further chip to cost beside --chip; liu2018 unless given. May be repeated.")] = None,
    partial_sums: Annotated[
        PartialSumsName | None, typer.Option(help="How tiles of one column are added, where not as the chip does: analog (exact) or digital (any size).")
    ] = None,
    encoder: Annotated[EncoderName, typer.Option(help="How counts become spikes.")] = EncoderName.even,
    cost_images: Annotated[
        int,
        typer.Option(min=1, help="Images simulated spike by spike for energy and latency of both designs; a neuron drains as long as for the slowest of them."),
    ] = 64,
    check_images: Annotated[int | None, typer.Option(min=0, help="Images on which spikes are held against the program; all unless given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for everything; an interrupted run in it goes on. Default: a new one under runs/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Walk the whole line: train, compile, map, simulate, cost, and report, beside the 8-bit design."""
    from memspike import line
    from memspike.reporter import print_report

    order = replace(
        order, chip=chip, also=tuple(also) if also else order.also, partial_sums=partial_sums.value if partial_sums else None, encoder=encoder.value,
        cost_images=cost_images, check_images=check_images,
    )  # fmt: skip
    folder = out or _new_folder(order)
    with Listener() as listener:
        found = line.run(order, folder, listener)
    if as_json:
        print(json.dumps(found.summary, indent=2))
    else:
        print_report(found.report, speech.out())
        speech.out().print(f"\nReport: {folder / 'report.html'}", soft_wrap=True, markup=False)
    if found.summary["checks"]["spike_equals_program"] is False:
        raise CheckFailed("spikes and program differ; see checks in result.json", where=str(folder))


@app.command(epilog="Example:\n\n  memspike train --model lenet --data path/to/mnist --bits 4 --out lenet.safetensors")
@takes_training_options
def train(
    order: "Order",
    out: Annotated[Path, typer.Option(help="File for the network of counts (.safetensors); checkpoints go to OUT.training.")],
    as_json: AsJson = False,
) -> None:
    """Train a network until its activations are spike counts and its weights integers."""
    from memspike import datasets, line, storage
    from memspike.network import QuantizedNetwork

    storage.check_place(QuantizedNetwork, out, order.weights, order.data)
    with Listener() as listener:
        training = line.start_training(order, datasets.load(order.data), Path(f"{out}.training"), listener)
        floating = training.floating()
        network = training.freeze(line.into_counts(order, training, floating, listener))
    storage.save(network, out)
    found = {"network": str(out), "accuracy_fp32": training.notes["accuracy_fp32"], "accuracy_training_forward": training.notes["accuracy_training_forward"]}
    shown = {"accuracy_fp32": "accuracy, floating point", "accuracy_training_forward": "accuracy, counts (training forward)"}
    if hardening := training.notes.get("hardening"):
        found |= {"accuracy_on_chips_before": hardening["accuracy_before"], "accuracy_on_chips_after": hardening["accuracy_after"]}
        shown |= {"accuracy_on_chips_before": "on new chips, before training for them", "accuracy_on_chips_after": "on new chips, after"}
    tell(found, as_json, shown)


@app.command("compile", epilog="Example:\n\n  memspike compile lenet.safetensors --out lenet-program.safetensors")
def compile_(
    network: Annotated[Path, typer.Argument(help="Network of counts, from memspike train.")],
    out: Annotated[Path, typer.Option(help="File for the program (.safetensors).")],
    chip: Annotated[str | None, typer.Option(help="Compile for this chip's partial sums; analog (exact) unless given.")] = None,
    repeat: Annotated[
        list[str] | None,
        typer.Option(metavar="OP=N", help="Write a layer N times: its cells' errors average out. As --repeat conv1.sum=8; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile a network of counts into an exact integer program, and print its text."""
    from memspike import storage, zoo
    from memspike.compiler import compile as compile_network
    from memspike.line import program_for
    from memspike.network import QuantizedNetwork
    from memspike.program import Program

    if str(network) in zoo.program_names() and not network.exists():
        raise MemspikeError(f"{network} is a program already", cure="memspike map, simulate and show take it by its name")
    storage.check_place(Program, out, network)
    loaded = storage.load(network, QuantizedNetwork)
    times = _numbers_of(repeat, "--repeat")
    program = program_for(loaded, storage.load_chip(chip), repeat=times) if chip else compile_network(loaded, repeat=times)
    storage.save(program, out)
    if as_json:
        print(json.dumps({"program": str(out), "digest": program.digest(), "ops": len(program.ops), "notes": program.notes.get("compile")}, indent=2))
    else:
        print(program, end="")


@app.command("map", epilog="Example:\n\n  memspike map lenet-program.safetensors --chip predictive --out lenet-mapping.safetensors")
def map_(
    program: Annotated[str, typer.Argument(help="Program, from memspike compile or run, or one of memspike zoo by name.")],
    out: Annotated[Path, typer.Option(help="File for the mapping (.safetensors).")],
    chip: ChipName = "predictive",
    copies: Annotated[list[str] | None, typer.Option(metavar="OP=N", help="Copies of a busy layer, as in --copies conv1.sum=4. May be repeated.")] = None,
    cells: Annotated[str | None, typer.Option(metavar="DEVICE", help="Other memristor cells, by name or from a .toml file.")] = None,
    faults: Annotated[Path | None, typer.Option(help="Fault map (.npz with `cells`) to map around.")] = None,
    avoid: Annotated[
        str | None, typer.Option(metavar="WAYS", help="Only these ways around --faults, with commas: rows, columns, sides, compensate.", show_default=False)
    ] = None,
    spare_columns: Annotated[int, typer.Option(min=0, help="Pairs of columns that every crossbar keeps free.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Lay a program's weights on a chip's crossbars, around stuck cells if they are known."""
    from memspike import storage, zoo
    from memspike.mapper import map as map_program
    from memspike.mapping import Mapping

    storage.check_place(Mapping, out, program)
    if avoid is not None and faults is None:
        raise MemspikeError("--avoid says how weights are mapped around faults, and none are given", cure="add --faults")
    wanted = _numbers_of(copies, "--copies")
    around = ways(avoid)
    described = storage.load_chip(chip)
    mapping = map_program(
        zoo.load_program(program), described.with_device(storage.load_device(cells)) if cells else described, copies=wanted or None,
        faults=storage.load_faults(faults) if faults else None, avoid=around, spare_columns=spare_columns,
    )  # fmt: skip
    storage.save(mapping, out)
    found = {"mapping": str(out), "chip": mapping.chip.name, "crossbars": mapping.num_crossbars, "utilization": mapping.utilization}
    tell(found, as_json, {"chip": "chip", "crossbars": "crossbars", "utilization": "cells that hold a weight"})


@app.command(
    epilog="Examples:\n\n  memspike simulate program.safetensors --data path/to/mnist --fidelity spike --limit 100 --save run.npz\n\n"
    "  memspike simulate program.safetensors --fidelity analog --cells wan2022-hfox --time 1d --chips 100 --out chips"
)
@takes(RealChips, "real")
def simulate(
    program: Annotated[str, typer.Argument(help="Program or mapping, or a program of memspike zoo by name.")],
    real: RealChips,
    data: Data = "digits",
    fidelity: Annotated[
        FidelityName, typer.Option(help="ideal: the integers; spike: every timestep of every neuron; analog: cells, wires and neurons as they are.")
    ] = FidelityName.ideal,
    limit: Annotated[int | None, typer.Option(min=1, help="Only N test images, spread evenly over all of them.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="File (.npz) for the arrays images, scores and labels, and for what the chip did (memspike estimate reads it).")
    ] = None,
    chip: Annotated[str | None, typer.Option(help="Chip of a program: predictive unless given, liu2018, or a .toml file. A mapping has its own.")] = None,
    encoder: Annotated[EncoderName | None, typer.Option(help="How counts become spikes; even unless given.", show_default=False)] = None,
    neuron: Annotated[NeuronName | None, typer.Option(help="Neuron circuit; the chip's unless given.")] = None,
    raster: Annotated[list[str] | None, typer.Option(metavar="OP", help="Keep this layer's spikes of the first image in the .npz. May be repeated.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of random spikes; with --fidelity analog also the chip's number, the first of --chips.")] = 0,
    device: SimulateOn = "cpu",
    as_json: AsJson = False,
) -> None:
    """Run test images through a program: exact integers, every spike, or real chips, one or many.

    Images are run in chunks on all cores, so that what is computed at once stays within 1 GiB, beside the images, the result and torch itself.
    One image that needs more runs alone.
    """
    from memspike import datasets, storage, zoo
    from memspike.mapping import Mapping
    from memspike.physics.device import cautions
    from memspike.result import Result
    from memspike.simulator import check_device
    from memspike.simulator import simulate as simulate_mapping

    check_device(device, fidelity.value)
    if save:
        storage.check_place(Result, save, data, real.faults)
    loaded = zoo.load_runnable(program)
    is_mapped, read_after = isinstance(loaded, Mapping), seconds(real.time)
    real.check(fidelity.value, is_mapped, {"--save": save, "--raster": raster})
    spoken = {"--encoder": encoder, "--neuron": neuron, "--raster": raster}
    for option in (option for option, value in spoken.items() if value and fidelity == FidelityName.ideal):
        cure = "add --fidelity spike" if option == "--raster" else "add --fidelity spike, or analog"
        raise MemspikeError(f"{option} says something about spikes, and fidelity ideal computes integers", cure=cure)
    if raster and not save:
        raise MemspikeError("--raster keeps spikes in the file of --save, and none is given", cure="add --save FILE.npz")
    if isinstance(loaded, Mapping) and chip is not None:
        raise MemspikeError(f"--chip {chip}: {program} is mapped onto {loaded.chip.name} already", cure="leave --chip out, or give the program")
    encoder, chip, design = encoder or EncoderName.even, chip or "predictive", None
    if isinstance(loaded, Mapping):
        described = real.on(loaded.chip, loaded.faults is not None)
        mapping = replace(loaded.without_faults() if real.leaves_out("stuck") else loaded, chip=described)
    else:
        described = real.on(storage.load_chip(chip))
        design = real.design(loaded, described, encoder.value, neuron.value if neuron else None)
        mapping = design.mapping(seed)
    dataset = datasets.load(data)
    test = dataset.limited(num_test=limit).test
    _check_data(mapping.program, dataset, data)
    images, labels = mapping.program.count_pixels(test.images), test.labels
    if real.chips is not None and design is not None:
        words = ["memspike", "simulate", str(program), "--data", data, "--fidelity", "analog", "--chip", chip, "--encoder", encoder.value]
        words += [*(["--limit", str(limit)] if limit else []), *(["--neuron", neuron.value] if neuron else []), *real.words()]
        run = {"command": shlex.join([*words, "--seed", str(seed)]), "data": dataset.source, "data_digest": dataset.digest}
        _many_chips(design, images, labels, real, seed, run, as_json)
        return
    with Listener() as listener:
        result = simulate_mapping(
            mapping, images, fidelity=fidelity.value, encoder=encoder.value, neuron=neuron.value if neuron else None, seed=seed, raster=tuple(raster or ()),
            time=read_after, device=device, progress=lambda done, total: listener.images(f"simulate, {fidelity.value}", done, total),
        )  # fmt: skip
    if save:
        storage.save_simulation(save, images, result, labels=labels)
    found = {"accuracy": result.accuracy(labels), "num_images": len(images), "fidelity": fidelity.value, "neuron": result.provenance.neuron}
    shown = {"accuracy": "accuracy", "num_images": "images", "fidelity": "fidelity"} | ({} if fidelity == FidelityName.ideal else {"neuron": "neuron"})
    beyond: tuple[str, ...] = ()
    if fidelity == FidelityName.analog:
        has_map = mapping.faults is not None and bool(mapping.faults.cells.any())
        names, beyond = list(described.imperfections(has_map=has_map)), cautions(described.crossbar.device, read_after)
        found |= {"chip": seed, "time_s": read_after, "imperfections": names, "cautions": list(beyond)}
        shown |= {"chip": "chip number", "time_s": "seconds after writing", "imperfections": "imperfections"}
    tell(found, as_json, shown)
    for caution in beyond if not as_json else ():
        speech.out().print(f"caution: {caution}", soft_wrap=True, markup=False)


def _check_data(program: "Program", found: "Dataset", data: str) -> None:
    """Refuse test images of another shape than the program's, and classes that are not those it scores, with the words of the command line."""
    shape, wanted = list(program.pixels.counts(found.test.images[:1], program.input_type.type).shape[1:]), list(program.input_type.shape)
    scores = program.types[program.output].shape[0]
    what = f"images of {shape} where the program takes {wanted}" if shape != wanted else f"{len(found.classes)} classes where the program scores {scores}"
    about = program.notes.get("data", {})  # nothing in a program that was not trained here
    known = tuple(about.get("classes", ()))  # older ones do not say
    numbers = tuple(map(str, range(len(found.classes))))
    # Classes without names are numbers in order; the same ones in another order are others.
    is_other = bool(known) and known != found.classes and (set(known) == set(found.classes) or numbers not in (known, found.classes))
    if is_other and len(found.classes) == scores and shape == wanted:
        number = next(number for number, (one, other) in enumerate(zip(known, found.classes, strict=False)) if one != other)
        what = f"{found.classes[number]!r} as class {number} where the program has {known[number]!r}"
    if shape != wanted or len(found.classes) > scores or (about and len(found.classes) < scores) or is_other:
        trained = about.get("name")
        trained = f" and was trained on {trained}" if trained else ""
        raise DataError(what + trained, where=f"--data {data}", cure="name the data that it was made for; --data is digits unless given")


def _many_chips(design: "Design", images: Any, labels: Any, real: RealChips, seed: int, run: dict[str, str], as_json: bool) -> None:
    """Simulate many chips, and write what was found beside them."""
    from memspike.files import write_text
    from memspike.montecarlo import Lab, study, summary
    from memspike.reporter import print_report, report_chips

    assert real.chips is not None and real.out is not None
    numbers, points = range(seed, seed + real.chips), 0.5 if real.within is None else real.within
    with Listener() as listener:
        lab = Lab(design, images, labels, folder=real.out, progress=listener.chips)
        found = study(lab, numbers, detail=numbers[: 5 if real.detail is None else real.detail], times=times(real.times))
    run = {**run, **{name: str(value) for name, value in design.describe().items() if value not in (None, False)}}
    said, page = {**summary(found, points), "provenance": run}, report_chips(found, points, run)
    write_text(real.out / "report.json", page.to_json())
    write_text(real.out / "report.html", page.html())
    write_text(real.out / "result.json", json.dumps(said, indent=2, allow_nan=False) + "\n")
    if as_json:
        print(json.dumps(said, indent=2))
        return
    print_report(page, speech.out())
    speech.out().print(f"\nReport: {real.out / 'report.html'}", soft_wrap=True, markup=False)


@app.command(
    epilog="Examples:\n\n  memspike simulate lenet-mapping.safetensors --data path/to/mnist --fidelity spike --limit 64 --save run.npz\n\n"
    "  memspike estimate lenet-mapping.safetensors run.npz --save cost.json"
)
def estimate(
    mapping: Annotated[Path, typer.Argument(help="Mapping, from memspike map.")],
    simulation: Annotated[Path, typer.Argument(help="Its simulation (.npz) in spikes, from memspike simulate --fidelity spike --save.")],
    save: Annotated[Path | None, typer.Option(help="File (.json) for the cost and its rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Cost a mapped program: latency, throughput, energy and area, by component and layer.

    Neurons drain as long as for the slowest of the simulated images, so latency and energy grow a little with their number.
    """
    from memspike import storage
    from memspike.cost import Cost
    from memspike.estimator import estimate as estimate_mapping
    from memspike.mapping import Mapping
    from memspike.result import Result
    from memspike.units import si

    if save:
        storage.check_place(Cost, save)
    cost = estimate_mapping(storage.load(mapping, Mapping), storage.load(simulation, Result))
    if save:
        storage.save(cost, save)
    found = cost.figures
    if as_json:
        parts = {f"{by}s": {name: {"energy_j": e, "area_m2": a} for name, (e, a) in cost.by(by).items()} for by in ("component", "layer")}
        print(json.dumps({**found, **parts}, indent=2))
        return
    out = speech.out()
    units = {"latency_s": "s", "throughput_hz": "images/s", "energy_j": "J", "area_m2": "m2"}
    labels = {"latency_s": "latency", "throughput_hz": "throughput, layers pipelined", "energy_j": "energy per image", "area_m2": "area"}
    out.print(two_columns([(labels[key], si(value, units[key])) for key, value in found.items()]))
    table = Table("component", "energy per image", "area", box=None)
    for name, (energy, area) in cost.by("component").items():
        table.add_row(name, si(energy, "J"), si(area, "m2"))
    out.print(table)


@app.command(epilog="Example:\n\n  memspike report runs/lenet --out lenet.html")
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path | None, typer.Option(help="File for the page (.html).")] = None,
) -> None:
    """Print a finished run's report again, and write its page."""
    from memspike.files import read_bytes
    from memspike.reporter import Report, print_report

    kept = folder / "report.json"
    try:
        page = Report.from_json(read_bytes(kept).decode("utf-8", "replace"))
    except FileRefused as error:
        cure = error.cure if kept.exists() else "name the folder of a finished memspike run, or of simulate --chips: it holds report.json"
        raise FileRefused(error.what, where=str(kept), cure=cure) from error
    if out:
        page.save(out)  # before anything is printed: a page that cannot be written is an error alone
    print_report(page, speech.out())


def _numbers_of(texts: list[str] | None, option: str) -> dict[str, int]:
    """Numbers by op, from OP=N. Raises MemspikeError naming the option where one is not that."""
    parts = [text.rpartition("=") for text in texts or []]
    for text, (_, equals, _) in zip(texts or [], parts, strict=True):
        if not equals:
            raise MemspikeError(f"{option} {text!r}; expected OP=N", cure="as in conv1.sum=4; memspike show names the ops of a program")
    names = [name for name, _, _ in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise MemspikeError(f"{option} is given twice for {twice[0]}", cure="say it once")
    return {name: integer(number, option) for name, _, number in parts}


def _new_folder(order: Any) -> Path:
    """The first folder under runs/ that holds no finished run and no other order's: an interrupted run is found again."""
    from memspike import line

    data = Path(order.data).stem or order.data
    base = f"{order.model}-{data}-a{order.activation_bits}w{order.weight_bits}-seed{order.seed}".replace(":", ".").replace("/", "-")
    return next(path for path in _numbered(Path("runs") / base) if line.is_free(order, path))


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}-{number}")
        number += 1
