"""The tables' bookkeeping: rows that come back as they were written, ways that are given equally many epochs, and a page that shows the rows there are."""

import ast
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memspike import files
from memspike.ensemble import Ensemble
from memspike.integer import IntType
from memspike.pixels import PixelCode
from memspike.trainer import load_model
from small_tables import shrink

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
BRIEF_TABLES = ("table1_neuron_convergence", "table2_weight_clustering", "table3_both", "table6_ablation", "table7_image", "table8_lines")


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of experiments/ by its name; they are scripts that import each other, and no package."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    yield import_module
    for name in [name for name, module in sys.modules.items() if str(EXPERIMENTS) in (getattr(module, "__file__", None) or "")]:
        del sys.modules[name]


def test_rows_come_back_as_they_were_written(imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = imported("rows")
    known = rows.read("table4_recipe")
    assert known, "experiments/results/table4_recipe.csv has rows"
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    rows.write("again", reversed(known))
    assert rows.read("again") == sorted(known, key=lambda row: row.key)
    assert rows.read("nothing") == []
    rows.add(replace(known[0], table="again", seconds=1.0))
    assert len(rows.read("again")) == len(known), "a row takes the place of the one of its key"


@pytest.mark.parametrize("table", BRIEF_TABLES)
def test_ways_that_are_set_beside_each_other_take_equally_many_epochs(imported: Any, table: str) -> None:
    methods, bench = imported("methods"), imported(table).BENCH
    for network in methods.BRIEF:
        recipes = [method.recipe(network) for method in bench.methods if method.kind == "trained"]
        epochs = {recipe.finetune_epochs + (recipe.convergence_epochs if recipe.regularizer != "none" else 0) for recipe in recipes}
        assert epochs == {methods.BRIEF[network] + methods.RECIPES[network].convergence_epochs}


def test_no_two_trainings_of_a_seed_share_a_folder(imported: Any) -> None:
    """A folder belongs to one training; two tables may share it only for the same method and recipe."""
    found: dict[str, Any] = {}
    for table in (*BRIEF_TABLES, "table4_recipe"):
        for method in imported(table).BENCH.methods:
            for bits in imported(table).BENCH.bits:
                assert found.setdefault(method.folder(bits), method) == method


@pytest.mark.parametrize("table", [*BRIEF_TABLES, "table4_recipe", "table5_fixed_point"])
def test_every_way_of_a_table_gives_a_row(imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: str) -> None:
    """Whole, on a hundred images and one epoch a stage: trained, compiled if both halves are integers, classified, and read back."""
    rows, bench = imported("rows"), imported(table).BENCH
    for where in shrink(tmp_path):
        monkeypatch.setattr(*where)
    monkeypatch.setattr("sys.argv", [table, "--networks", "lenet", "--seeds", "1", "--bits", str(bench.bits[0]), "--runs", str(tmp_path / "runs")])
    bench.main()
    found = {row.method: row for row in rows.read(table)}
    methods = [method for method, bits in bench.ways("lenet") if bits == bench.bits[0]]
    assert methods and [*sorted(found)] == sorted(method.name for method in methods)
    for method in methods:
        row = found[method.name]
        assert bool(row.program_digest) == (method.activation and method.weight)
        assert row.changed_predictions == ("0" if row.program_digest and method.kind != "dynamic_fixed_point" else "")
        assert row.epochs == (2 if method.kind == "trained" else 0) and 0 <= row.accuracy_program <= 1


def test_trainings_at_once_give_the_rows_of_trainings_in_turn(imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two processes, and the same accuracies and programs."""
    rows, bench = imported("rows"), imported("table3_both").BENCH
    asked = ["table3_both", "--networks", "lenet", "--seeds", "2", "--bits", "4"]
    environment = {**os.environ, "RESULTS": str(tmp_path / "2")}
    command = [sys.executable, str(Path(__file__).parent / "small_tables.py"), *asked, "--jobs", "2", "--runs", str(tmp_path / "2" / "runs")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    for where in shrink(tmp_path / "1"):
        monkeypatch.setattr(*where)
    monkeypatch.setattr("sys.argv", [*asked, "--runs", str(tmp_path / "1" / "runs")])
    bench.main()
    in_turn = [replace(row, seconds=0.0, device="") for row in rows.read("table3_both")]
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "2")
    assert [replace(row, seconds=0.0, device="") for row in rows.read("table3_both")] == in_turn and len(in_turn) == 6


def test_a_row_names_whoever_trained_its_epochs(imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not whoever finished it: a training that went on under another build names both; one floating-point network has one digest."""
    rows, bench = imported("rows"), imported("table3_both").BENCH
    for where in shrink(tmp_path):
        monkeypatch.setattr(*where)
    monkeypatch.setattr("sys.argv", ["table3_both", "--networks", "lenet", "--seeds", "1", "--bits", "4", "--runs", str(tmp_path / "runs")])
    bench.main()
    [direct, fitted, trained] = sorted(rows.read("table3_both"), key=lambda row: row.method == bench.aims.subject)
    assert direct.program_digest != fitted.program_digest, "scales of least squared error are not those of the largest weight"
    assert direct.fp32_digest == fitted.fp32_digest == trained.fp32_digest != ""
    log = tmp_path / "runs" / "lenet-0" / bench.methods[-1].folder(4) / imported("floating").EPOCHS
    first, second = (json.loads(line) for line in log.read_text().split("\n") if line)
    assert (first["stage"], second["stage"]) == ("convergence", "counts")
    again, half = {**first, "version": "older", "seconds": 100.0}, json.dumps(second)[:20]
    log.write_text("\n".join([json.dumps(first), json.dumps(again), half, json.dumps(second)]))  # trained twice; cut off, and then trained
    (tmp_path / "table3_both.csv").unlink()
    bench.main()
    found = next(row for row in rows.read("table3_both") if row.method == trained.method)
    assert found.version == f"older and {trained.version}" and found.seconds == 100.0 + second["seconds"]
    log.unlink()
    (tmp_path / "table3_both.csv").unlink()
    bench.main()
    found = next(row for row in rows.read("table3_both") if row.method == trained.method)
    assert (found.seconds, found.version, found.device) == (0.0, "unknown", "unknown") and found.program_digest == trained.program_digest


def test_two_commands_that_end_at_the_same_moment_both_leave_their_rows(imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = imported("rows")
    one = rows.read("table4_recipe")[0]
    monkeypatch.setattr(rows, "RESULTS", tmp_path)
    read, others = rows.read, list[threading.Thread]()

    def slowly(table: str) -> Any:
        found = read(table)
        if not others:  # between reading and writing, another one comes
            others.append(threading.Thread(target=rows.add, args=(replace(one, seed=1),)))
            others[0].start()
            others[0].join(0.2)
        return found

    monkeypatch.setattr(rows, "read", slowly)
    rows.add(replace(one, seed=0))
    others[0].join()
    assert [row.seed for row in read(one.table)] == [0, 1]


def test_rows_of_brevitas_are_their_own(imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the machine that trained it, the predictions of its own process, and no training beside a row of another network."""
    versus, floating, rows = map(imported, ("versus_brevitas", "floating", "rows"))
    for where in shrink(tmp_path):
        monkeypatch.setattr(*where)
    net = floating.Floating("lenet", 0, floating.load_data(tmp_path, ""), tmp_path / "runs", "cpu")
    for bits in (4, 2):
        ours, _ = net.row(versus.TABLE, versus.OURS, bits)
        rows.add(replace(ours, device="elsewhere"))
    labels, asked = net.data.test.labels, list[dict[str, Any]]()

    def trained(command: list[str], **_: Any) -> Any:
        asked.append(json.loads(command[-1]))
        np.save(asked[-1]["out"], labels if asked[-1]["bits"] == 4 else (labels + 1) % 10)
        if len(asked) == 1:
            assert versus.theirs(net, 2).accuracy_program == 0.0, "another of fewer bits ends meanwhile"
        return subprocess.CompletedProcess(command, 0, '{"seconds": 7.0, "version": "1"}')

    monkeypatch.setattr(versus.subprocess, "run", trained)
    row = versus.theirs(net, 4)
    assert (row.accuracy_program, row.device, row.seconds, row.version) == (1.0, floating.device_name("cpu"), 7.0, "brevitas 1")
    rows.add(replace(ours, fp32_digest="another"))
    with pytest.raises(SystemExit, match="2 bits, seed 0 started from another"):
        versus.theirs(net, 2)
    assert [each["bits"] for each in asked] == [4, 2]


def test_a_mean_is_over_seeds_alone(imported: Any) -> None:
    """Not over data sets, nor over trainings of different lengths."""
    rows, printed = imported("rows"), imported("printed")
    one = rows.read("table4_recipe")[0]
    others = [replace(one, data="another"), replace(one, epochs=one.epochs + 1)]
    lines = printed.table_lines([one, *others, replace(one, seed=7)], printed.Aims())
    assert sum(line.startswith("| ") for line in lines) == 2 + 3, "a table for each data set, a line for each number of epochs"
    assert [line for line in lines if line.startswith("###")] == [f"### AlexNet on {data}" for data in sorted((one.data, "another"))]


def test_chips_set_beside_each_other_are_of_one_design(imported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = imported("real_chips")
    path, row = tmp_path / "chips.csv", ("HfOx", "trained", 0, 0.9, 0.95, 3, 100, "1.00", "program", "design")
    for each in (row, row, (*row[:2], 1, *row[3:])):
        real.append(path, each, "a command")
    assert [known["chip"] for known in real.rows_of(path)] == ["0", "1"] and path.read_text().startswith("# a command\n")
    real.check_alike(real.rows_of(path), path)
    for column in (6, 8, 9):
        other = tmp_path / f"{column}.csv"
        for each in (row, (*row[:2], 1, *row[3:column], "other", *row[column + 1 :])):
            real.append(other, each, "a command")
        with pytest.raises(SystemExit, match="not of one"):
            real.check_alike(real.rows_of(other), other)
    for name in ("lenet", "alexnet"):
        path = real.RESULTS / f"real_chips_{name}.csv"
        real.check_alike(real.rows_of(path), path)


def test_rows_start_from_a_network_that_is_kept(imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same weights, predictions and program, and nothing trained in floating point; unless it is asked for, or the recipe is another one."""
    kept, keep, floating, methods, rows = map(imported, ("kept", "keep", "floating", "methods", "rows"))
    for where in (*shrink(tmp_path), (kept, "NETWORKS", tmp_path / "networks")):
        monkeypatch.setattr(*where)
    monkeypatch.setattr("sys.argv", ["keep", "--networks", "lenet", "--seeds", "1", "--runs", str(tmp_path / "runs")])
    keep.main()
    keep.main()
    assert "kept already" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*sys.argv, "--anew"])
    keep.main()
    assert "kept already" not in capsys.readouterr().out

    def anyone(runs: str, anew: bool = False) -> Any:
        return floating.Floating("lenet", 0, floating.load_data(tmp_path, ""), tmp_path / runs, "cpu", anew=anew)

    trained, found = anyone("runs", anew=True), anyone("others")
    assert found.is_kept and not trained.is_kept and not (tmp_path / "others" / "lenet-0").exists()
    assert found.digest() == trained.digest() and found.accuracy == trained.accuracy and (found.predictions == trained.predictions).all()
    direct = methods.Method("direct rounding", "direct")
    (one, _), (other, _) = (network.row("again", direct, 4) for network in (trained, found))
    assert one.program_digest == other.program_digest and one.fp32_digest == other.fp32_digest
    rows.add(replace(other, table="table9", epochs=7, accuracy_fp32_control=0.25, control=found.control_said(7)))
    assert found.control(7) == 0.25 and not (found.folder / "control-7").exists(), "a row has what seven more epochs bring"
    assert rows.control(found.digest(), found.control_said(8)) is rows.control("", found.control_said(7)) is None
    longer = replace(methods.RECIPES["lenet"], epochs=2)
    assert kept.read(kept.origin("lenet", 0, found.data.digest, longer)) is None and "of another recipe" in capsys.readouterr().err
    assert kept.read(kept.origin("lenet", 0, found.data.digest, replace(longer, epochs=1, finetune_epochs=7))) is not None, "what comes later does not matter"
    monkeypatch.setitem(methods.RECIPES, "lenet", replace(methods.RECIPES["lenet"], finetune_learning_rate=0.5))
    assert rows.control(found.digest(), found.control_said(7)) is None, "at another rate it would be another one"


def test_kept_networks_are_those_of_their_rows(imported: Any) -> None:
    """Whole, of today's recipe, and the rows that name them have their accuracy."""
    kept, rows, methods, show = map(imported, ("kept", "rows", "methods", "show_tables"))
    every = [row for table in (*show.TABLES, "versus_brevitas") for row in rows.read(table)]
    paths = sorted(kept.NETWORKS.glob("*.safetensors"))
    assert paths, "experiments/networks holds some"
    for path in paths:
        metadata, arrays = files.read_tensors(path)
        origin, notes = json.loads(metadata["origin"]), json.loads(metadata["notes"])
        assert path.name == f"{origin['network']}-{origin['seed']}.safetensors"
        assert origin == kept.origin(origin["network"], origin["seed"], origin["data_digest"], methods.RECIPES[origin["network"]])
        state = {name: torch.from_numpy(array) for name, array in arrays.items()}
        assert kept.digest(state) == notes["digest"]
        load_model(origin["network"], 1 if origin["network"] == "lenet" else 3, 10, 0).load_state_dict(state)
        mine = [row for row in every if row.fp32_digest == notes["digest"]]
        assert mine, "a network is kept for its rows"
        assert all(abs(row.accuracy_fp32 - notes["accuracy_fp32"]) < 0.002 for row in mine), "up to how a processor rounds"


def lines_of(printed: Any, rows: Sequence[Any], aims: Any) -> list[str]:
    """The lines of one table below its head."""
    return [line for line in printed.table_lines(rows, aims) if line.startswith("| ")][1:]


def test_a_table_says_mean_spread_loss_and_paired_counts(imported: Any) -> None:
    rows, printed = imported("rows"), imported("printed")
    one = replace(rows.read("table4_recipe")[0], network="lenet", accuracy_fp32_control=0.99, accuracy_program=0.98, won=3, lost=13, changed_predictions="0")
    both = [one, replace(one, seed=one.seed + 1, accuracy_program=0.97, changed_predictions="2")]
    lines = printed.table_lines(both, printed.Aims({f"lenet {one.activation_bits}": "0.02"}))
    assert lines[-1] == "Compiling changed 2 predictions of 2 programs, on all 10 000 test images each."
    assert "| 2 |" in lines[4] and "97.50 ± 0.71" in lines[4] and "1.50 ± 0.71" in lines[4] and lines[4].endswith("| 6 : 26 | 0.02 |")
    without = printed.table_lines([replace(row, changed_predictions="") for row in both], printed.Aims())
    assert without[-1].endswith("| 6 : 26 |"), "where there is no program, nothing is said of one"


def test_a_table_says_how_far_its_subject_is_ahead(imported: Any) -> None:
    """Seed by seed, over the seeds that both have, where both started from one floating-point network."""
    rows, printed = imported("rows"), imported("printed")
    one = replace(rows.read("table4_recipe")[0], seed=0, accuracy_program=0.98)
    others = [replace(one, method="other", accuracy_program=0.97), replace(one, method="other", seed=1, accuracy_program=0.9)]
    ours, theirs = lines_of(printed, [*others, one], printed.Aims(subject=one.method))
    assert f"| **{one.method}** |" in ours and ours.endswith("| - |") and theirs.endswith("| 1.00 (1 seed) |")
    more = [replace(one, seed=1, accuracy_program=0.91), replace(one, seed=2, accuracy_program=0.5)]
    from_another = [replace(row, accuracy_fp32=0.5) for row in more]
    assert lines_of(printed, [one, *from_another, *others], printed.Aims(subject=one.method))[-1].endswith("| 1.00 (1 seed) |"), "another start is no pair"
    _, theirs = lines_of(printed, [one, *more, *others], printed.Aims(subject=one.method))
    assert theirs.endswith("| 1.00 ± 0.00 |")


def test_a_table_says_which_goals_are_missed(imported: Any) -> None:
    """A mean on its goal holds it; who should be ahead and is not is said to be behind."""
    rows, printed = imported("rows"), imported("printed")
    one = replace(rows.read("table4_recipe")[0], network="lenet", seed=0, accuracy_fp32=0.985, accuracy_fp32_control=0.99, accuracy_program=0.98)
    place, five = f"lenet {one.activation_bits}", [replace(one, seed=seed) for seed in range(5)]
    for goal, said in (
        (1.0, "| 1.00 ± 0.00 | 1.0 | 0.50 ± 0.00 (goal 0.4, missed) |"),
        (0.99, "| 1.00 ± 0.00 | 0.99, missed | 0.50 ± 0.00 (goal 0.4, missed) |"),
    ):
        assert said in lines_of(printed, five, printed.Aims(goals={place: goal}, plain_goals={place: 0.4}))[0]
    assert "| 1.0, on 1 of 5 seeds |" in lines_of(printed, [one], printed.Aims(goals={place: 1.0}))[0], "a goal is for the mean of all seeds"
    (line,) = lines_of(printed, five, printed.Aims({place: "9.9"}, {place: 0.1}, {place: 0.1}, beside=(one.method,)))
    assert "missed" not in line and "9.9" not in line and "goal" not in line, "what has other means is held against nothing"
    other = replace(one, method="other", accuracy_program=0.99)
    aims = printed.Aims(subject=one.method)
    assert lines_of(printed, [one, other], aims)[1].endswith("| -1.00, behind |")
    assert lines_of(printed, [one, replace(other, accuracy_program=0.98)], aims)[1].endswith("| 0.00 |")


def test_the_page_of_tables_shows_the_rows_there_are(imported: Any) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'memspike[figures]'")
    show = imported("show_tables")
    figures = [path for network in show.TITLES if (path := show.DOCS / "figures" / f"{network}.svg").exists()]
    assert show.PAGE.read_text(encoding="utf-8") == show.page(figures), "python experiments/show_tables.py writes it anew"


def test_what_is_recovered_has_the_jackknifes_error(imported: Any) -> None:
    """Of a ratio of means over the same chips; what was not lost cannot be recovered."""
    recovery = imported("real_chips").recovery
    ideal, before, now = 0.9, np.array([0.5, 0.6, 0.8]), np.array([0.7, 0.8, 0.8])

    def of(accuracies: np.ndarray[Any, Any], chips: range = range(3)) -> Ensemble:
        return Ensemble(ideal, 100, np.array(chips), accuracies, np.zeros(len(accuracies), int))

    without = [np.delete(now - before, i).mean() / np.delete(ideal - before, i).mean() for i in range(3)]
    error = np.sqrt(2 / 3 * sum((value - np.mean(without)) ** 2 for value in without))
    assert recovery(of(now), of(before)) == f"{100 * 0.4 / 0.8:.1f} ± {100 * error:.1f} %" and error > 0.05
    assert recovery(of(np.append(now, 0.1), range(4)), of(before)) == recovery(of(now), of(before)), "the chips that both have"
    assert recovery(of(now[:1], range(1)), of(before[:1], range(1))) == "50.0 %" and recovery(of(now), of(np.full(3, ideal))) == "no loss"


@pytest.mark.parametrize("bits", range(2, 9))
def test_brevitas_is_shown_the_counts_of_a_program(bits: int) -> None:
    """Its process has no memspike, so it counts pixels itself; and a teacher sees whole ones."""
    source = ast.parse((EXPERIMENTS / "peers" / "brevitas_training.py").read_text(encoding="utf-8"))
    named = {node.name: node for node in source.body if isinstance(node, ast.FunctionDef)}
    scope: dict[str, Any] = {"torch": torch, "Tensor": torch.Tensor}
    exec(compile(ast.Module([named["_counted"], named["_whole"]], []), "brevitas_training.py", "exec"), scope)  # noqa: S102 (our own file)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    shares = PixelCode().counts(pixels, IntType(bits)) / IntType(bits).max
    np.testing.assert_allclose(scope["_counted"](torch.from_numpy(pixels), bits), shares, rtol=1e-6)
    np.testing.assert_allclose(scope["_whole"](torch.from_numpy(pixels)), pixels / 255, rtol=1e-6)


def test_designs_are_set_beside_each_other_on_every_chip(
    imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each chip, whose ratios are those of its own costs; and no second training."""
    on_chip = imported("on_chip")
    for where in shrink(tmp_path):
        monkeypatch.setattr(*where)
    monkeypatch.setattr(on_chip, "RESULTS", tmp_path / "on_chip.csv")
    monkeypatch.setattr("sys.argv", ["on_chip", "--seeds", "1", "--images", "2", "--runs", str(tmp_path / "runs")])
    on_chip.main()
    found = on_chip.read()
    assert [(row["chip"], row["seed"]) for row in found] == [("liu2018", "0"), ("predictive", "0")]
    for row in found:
        assert float(row["speedup"]) == pytest.approx(float(row["baseline_latency_s"]) / float(row["latency_s"]), abs=1e-3)
        assert float(row["area_saving"]) == pytest.approx(1 - float(row["area_m2"]) / float(row["baseline_area_m2"]), abs=1e-3)
    monkeypatch.setattr(on_chip, "measure", None)
    on_chip.main()
    assert on_chip.read() == found and "predictive" in capsys.readouterr().out


def test_fewer_bits_and_other_images_have_costs_of_their_own(imported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each way to few bits is a row beside the others, set against one 8-bit design: the fewer bits, the shorter the windows."""
    on_chip = imported("on_chip")
    for where in shrink(tmp_path):
        monkeypatch.setattr(*where)
    monkeypatch.setattr(on_chip, "RESULTS", tmp_path / "on_chip.csv")
    base = ["on_chip", "--seeds", "1", "--images", "2", "--runs", str(tmp_path / "runs")]
    for said in ([], ["--bits", "2"], ["--bits", "2", "--method", "image on 5 lines"]):
        monkeypatch.setattr("sys.argv", [*base, *said])
        on_chip.main()
    found = [row for row in on_chip.read() if row["chip"] == "predictive"]
    assert [(row["method"], row["bits"]) for row in found] == [("default recipe", "2"), ("default recipe", "4"), ("image on 5 lines", "2")]
    assert len({row["baseline_digest"] for row in found}) == 1 and len({row["program_digest"] for row in found}) == 3
    two, four, lines = (float(row["latency_s"]) for row in found)
    assert two < four and lines < four
