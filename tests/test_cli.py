"""The command line: verbs on saved files, JSON, exit codes, and errors that help."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from memspike import __version__, cli, datasets
from memspike.program import Program
from memspike.storage import load, load_chip

SHORT = ["--epochs", "3", "--convergence-epochs", "1", "--finetune-epochs", "2"]
Done = subprocess.CompletedProcess[str]


def memspike(*words: str | Path, cwd: Path | None = None) -> Done:
    """The command line as a user starts it."""
    return subprocess.run([sys.executable, "-m", "memspike", *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The same in this process, which need not load torch for every line; in an empty folder."""

    def memspike_here(*words: str) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["memspike", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), said.out, said.err)

    return memspike_here


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every verb has run once, one after the other, on the embedded digits."""
    folder = tmp_path_factory.mktemp("verbs")
    for words in (
        ["train", "--out", "net.safetensors", *SHORT],
        ["compile", "net.safetensors", "--out", "program.safetensors"],
        ["map", "program.safetensors", "--chip", "predictive", "--copies", "conv1.sum=2", "--out", "mapping.safetensors"],
        ["simulate", "program.safetensors", "--save", "ideal.npz"],
        ["simulate", "mapping.safetensors", "--fidelity", "spike", "--limit", "20", "--raster", "conv1", "--save", "spike.npz", "--json"],
        ["estimate", "mapping.safetensors", "spike.npz", "--save", "cost.json"],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, f"{words}: {done.stderr} {done.exception}"
        (folder / f"{words[0]}-{words[1]}.out").write_text(done.stdout)
    return folder


def test_compile_prints_the_program_that_it_saves(files: Path) -> None:
    program = load(files / "program.safetensors", Program)
    assert (files / "compile-net.safetensors.out").read_text() == str(program)
    assert memspike("show", files / "program.safetensors").stdout == str(program)


def test_simulate_saves_the_counts_that_went_in_and_the_integers_that_came_out(files: Path) -> None:
    program = load(files / "program.safetensors", Program)
    for name, number in (("ideal", 360), ("spike", 20)):
        saved = np.load(files / f"{name}.npz")
        assert saved["images"].shape == (number, 1, 8, 8)
        np.testing.assert_array_equal(saved["scores"], program.evaluate(saved["images"]))


def test_json_goes_to_stdout_and_is_the_same_number(files: Path) -> None:
    found = json.loads((files / "simulate-mapping.safetensors.out").read_text())
    saved = np.load(files / "spike.npz")
    assert found["accuracy"] == np.mean(saved["scores"].argmax(1) == saved["labels"])
    assert found["num_images"] == 20
    assert found["fidelity"] == "spike"


def test_estimate_says_what_it_saves(files: Path) -> None:
    found = json.loads(memspike("estimate", files / "mapping.safetensors", files / "spike.npz", "--json").stdout)
    assert found["energy_j"] == pytest.approx(sum(part["energy_j"] for part in found["components"].values()))
    assert found["area_m2"] == pytest.approx(sum(part["area_m2"] for part in found["components"].values()))


def test_what_says_nothing_here_is_refused(files: Path, here: Callable[..., Done]) -> None:
    """An option that a mapping, integers or a layout without faults would pass over in silence."""
    program, mapping = str(files / "program.safetensors"), str(files / "mapping.safetensors")
    images, labels = np.zeros((11, 28, 28), np.uint8), np.arange(11)
    assert here("map", program, "--spare-columns", "12", "--out", str(files / "spread.safetensors")).returncode == 0
    np.savez(files / "eleven.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    for words, says in (
        (["simulate", mapping, "--chip", "liu2018"], "is mapped onto predictive already"),
        (["simulate", program, "--neuron", "dual"], "--neuron says something about spikes"),
        (["simulate", program, "--encoder", "burst"], "--encoder says something about spikes"),
        (["map", program, "--out", "again.safetensors", "--avoid", "rows"], "add --faults"),
        (["simulate", "lenet-mnist-4"], "images of [1, 8, 8] where the program takes [1, 28, 28] and was trained on MNIST"),
        (["simulate", "lenet-mnist-4", "--data", str(files / "eleven.npz")], "11 classes where the program scores 10"),
        (["train", "--out", "x.safetensors", "--layer-bits", "conv1=/"], "gives no bits"),
        (["train", "--out", "x.safetensors", "--hardening-epochs", "2"], "add --for-cells"),
        (["train", "--out", "x.safetensors", "--weights", "w.safetensors", "--epochs", "5"], "--epochs is for training in floating point"),
        (["map", program, "--out", "again.safetensors", "--copies", "conv1.sum=2", "--copies", "conv1.sum=3"], "--copies is given twice for conv1.sum"),
        (["estimate", mapping, str(files / "ideal.npz")], "the simulation is of fidelity ideal"),
        (["simulate", program, "--fidelity", "spike", "--raster", "conv1"], "--raster keeps spikes in the file of --save"),
        (["simulate", program, "--raster", "conv1", "--save", "x.npz"], "fidelity ideal computes integers add --fidelity spike"),
        (["estimate", str(files / "spread.safetensors"), str(files / "spike.npz")], "the simulation is of another mapping of the same program"),
        (["show", mapping, "--notes"], "only networks and programs have notes"),
    ):
        done = here(*words)
        assert done.returncode == 2 and says in " ".join(done.stderr.split()), (words, done.stderr)
    assert "neuron" not in here("simulate", program, "--limit", "5").stdout
    assert "up_down" in here("simulate", program, "--limit", "5", "--fidelity", "spike").stdout


def test_what_cannot_be_written_is_refused_before_it_is_made(files: Path, here: Callable[..., Done], tmp_path: Path) -> None:
    """Nor is anything replaced by what is made from it."""
    network, program = (tmp_path / name for name in ("net.safetensors", "program.safetensors"))
    for path in (network, program):
        path.write_bytes((files / path.name).read_bytes())
    arrays = {
        f"{split}_{what}": np.zeros((4, 8, 8), np.uint8) if what == "images" else np.arange(4) for split in ("train", "test") for what in ("images", "labels")
    }
    np.savez(tmp_path / "mine.npz", **arrays)
    (tmp_path / "folder.safetensors").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for words, says in (
        (["compile", "net.safetensors", "--out", "./net.safetensors"], "is read, and would be replaced"),
        (["map", "program.safetensors", "--out", "program.safetensors"], "is read, and would be replaced"),
        (["simulate", "program.safetensors", "--data", "mine.npz", "--save", "mine.npz"], "is read, and would be replaced"),
        (["train", "--weights", "net.safetensors", "--out", "net.safetensors"], "is read, and would be replaced"),
        (["train", "--out", "net.pt"], "a network is saved as .safetensors"),
        (["train", "--out", "folder.safetensors"], "is a directory"),
        (["train", "--out", "no/folder/net.safetensors"], "is no folder to write to"),
        (["estimate", "program.safetensors", "mine.npz", "--save", "cost.txt"], "a cost is saved as .json"),
    ):
        done = here(*words)
        assert done.returncode == 3 and says in " ".join(done.stderr.split()), (words, done.stderr)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_an_interruption_is_answered(here: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    from memspike import line

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(line, "run", stopped)
    done = here("run")
    assert done.returncode == 130 and done.stderr.startswith("interrupted; ")


def test_an_interruption_while_it_loads_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from memspike.__main__ import main

    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", stopped)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_show_and_report_say_what_a_file_is_instead(files: Path, here: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"memspike report": 1}')
    (tmp_path / "result.json").write_text("{}")
    assert "is no thing that memspike can load" in here("show", "result.json").stderr
    assert "is a report" in here("show", "report.json").stderr
    assert "is a checkpoint of a training" in here("show", str(files / "net.safetensors.training" / "float.safetensors")).stderr
    (tmp_path / "report.json").write_text("")
    done = here("report", ".")
    assert done.returncode == 3 and "report.json: is no report" in done.stderr


def test_show_says_where_the_numbers_of_a_chip_and_of_cells_are_from(files: Path, here: Callable[..., Done]) -> None:
    shown = here("show", "wan2022-hfox").stdout
    assert "40.0 uS" in shown and "Neurram_48core" in shown and "Wan et al., Nature 608" in shown
    folder = Path(cli.__file__).parents[1] / "chips"
    assert here("show", str(folder / "devices" / "wan2022-hfox.toml")).stdout == shown
    shown = here("show", "predictive").stdout
    assert "window_overhead" in shown and "assumed" in shown and "crossbar.device.g_min" in shown
    chip = load_chip("predictive")
    for name, value in (("crossbar.rows", 32), ("neuron.max_spikes_per_timestep", 1), ("partial_sums", "analog"), ("max_stacked_tiles", 64)):
        assert re.search(rf"(?m)^ {name} +{value} *$", shown), name
    assert all(note in shown for note in chip.notes)
    assert json.loads(here("show", str(files / "program.safetensors"), "--notes").stdout)["seed"] == 0
    assert here("show", "nowhere.toml").returncode == 3


def test_a_flipped_byte_is_refused_with_exit_code_3(files: Path, tmp_path: Path) -> None:
    data = bytearray((files / "program.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(data)
    done = memspike("simulate", tmp_path / "flipped.safetensors")
    assert done.returncode == 3
    assert "SHA-256" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "--data", "nowhere/at/all"], 2, "nowhere/at/all"),
        (["run", "--model", "lenet", "--data", "digits"], 2, "fails on an image of [1, 8, 8]"),
        (["run", "--model", "lenett"], 2, "no model 'lenett'"),
        (["run", "--model", "json:dumps"], 2, "json:dumps"),
        (["run", "--chip", "predictiv"], 2, "predictive"),
        (["run", "--bits", "9"], 2, "--bits"),
        (["run", "--dither", "3"], 2, "unknown dither 3"),
        (["run", "--image-range", "220-39"], 2, "a range of pixels from 220 to 39"),
        (["run", "--image-range", "wide"], 2, "expected LOW-HIGH or fit"),
        (["run", "--image-lines", "0"], 2, "--image-lines"),
        (["run", "--image-lines", "18"], 2, "lines of 4 bits are of use up to 17"),
        (["run", "--layer-bits", "conv1"], 2, "expected LAYER=ACTIVATION/WEIGHT"),
        (["run", "--layer-bits", "nothing=4/4"], 2, "is called 'nothing'"),
        (["run", "--layer-bits", "fc=8/"], 2, "no layer with activation bits is called 'fc'"),
        (["run", "--mean", "a,b", "--std", "1"], 2, "expected numbers with commas between"),
        (["run", "--mean", "0.5"], 2, "--std"),
        (["run", "--device", "abacus"], 2, "abacus"),
        (["run", "--device", "cpu:"], 2, "no device 'cpu:'"),
        (["run", "--seed", "9" * 30], 2, "--seed"),
        (["run", "--layer-bits", f"conv1={'9' * 5000}/4"], 2, "of at most nine digits"),
        (["run", "--data", "~nobody-of-this-name/x"], 2, "~nobody-of-this-name/x"),
        (["simulate", "a" * 300], 3, "File name too long"),
        (["simulate", "no-such-file.safetensors"], 3, "no-such-file.safetensors"),
        (["report", "no-such-run"], 3, "name the folder of a finished memspike run"),
        (["show", "wan2022"], 2, "nothing is called 'wan2022'\n  did you mean 'wan2022-hfox'?"),
        (["show", ""], 2, "nothing is called ''"),
        (["compile", "lenet-mnist-4", "--out", "p.safetensors"], 2, "lenet-mnist-4 is a program already"),
        (["map", "lenet-mnist-4", "--out", "m.safetensors", "--cells", "predictive"], 2, "that is a chip"),
        (["map", "lenet-mnist-4", "--out", "m.safetensors", "--chip", "wan2022-hfox"], 2, "that is a device"),
        (["map", "lenet-mnist-4", "--out", "m.safetensors", "--faults", "f.npz", "--avoid", ","], 2, "--avoid '': no such way around stuck cells"),
        (["run", "--image-range", "-5-100"], 2, "expected LOW-HIGH or fit\n  as in 39-220, within 0 to 255"),
        (["run", "--learning-rate", "inf"], 2, "learning_rate must be a finite number above zero, got inf"),
        (["simulat"], 2, "simulate"),
        (["train"], 2, "--out"),
    ],
)
def test_a_users_mistake_gets_a_message_and_an_exit_code(words: list[str], code: int, says: str, here: Callable[..., Done]) -> None:
    done = here(*words)
    assert says in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_every_verb_has_help_with_an_example() -> None:
    for verb in ("run", "train", "compile", "map", "simulate", "estimate", "report", "show", "chips", "zoo", "doctor"):
        shown = CliRunner().invoke(cli.app, [verb, "--help"])
        assert shown.exit_code == 0
        assert f"memspike {verb}" in shown.output.split("Example")[1]


def test_version_and_doctor() -> None:
    assert memspike("--version").stdout == f"memspike {__version__}\n"
    shown = memspike("doctor").stdout
    assert "torch" in shown
    assert "instructions" in shown


def test_chips_lists_what_ships() -> None:
    shown = memspike("chips").stdout
    assert "predictive" in shown
    assert "liu2018" in shown
    assert "fitted" in shown


def test_an_interrupted_training_goes_on_to_the_same_network(here: Callable[..., Done], tmp_path: Path) -> None:
    """kill -9 in the middle; the same command ends in the very file that an unbroken one writes."""
    unbroken, broken = (["train", "--out", f"{name}.safetensors", "--epochs", "2", "--convergence-epochs", "0", "--finetune-epochs", "1"] for name in "ab")
    assert here(*unbroken).returncode == 0
    process = subprocess.Popen([sys.executable, "-m", "memspike", *broken], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    while "epoch   1/2" not in (said := process.stderr.readline()):
        assert said, "it ended before its first epoch"
    process.kill()
    process.wait()
    assert not (tmp_path / "b.safetensors").exists() and (tmp_path / "b.safetensors.training" / "float.safetensors").exists()
    assert here(*broken).returncode == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_pretrained_network_of_ones_own_can_be_brought(suffix: str, here: Callable[..., Done], tmp_path: Path) -> None:
    """The state dict of a module next to the user; floating point is what it was, whatever the seed."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    source = "from torch import nn\n\ndef make_net():\n    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))\n"
    (tmp_path / "mynets.py").write_text(source)
    torch.manual_seed(5)
    state = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)).state_dict()
    weights = tmp_path / f"net{suffix}"
    if suffix == ".pt":
        torch.save(state, weights)
    else:
        save_file(state, weights)
    words = ["train", "--model", "mynets:make_net", "--weights", weights.name, "--convergence-epochs", "0", "--finetune-epochs", "1", "--json"]
    found = [json.loads(here(*words, "--seed", str(seed), "--out", f"{seed}.safetensors").stdout) for seed in (0, 1)]
    assert found[0]["accuracy_fp32"] == found[1]["accuracy_fp32"]
    assert found[0]["accuracy_training_forward"] > found[0]["accuracy_fp32"]


def test_weights_that_run_code_are_refused(tmp_path: Path) -> None:
    """A pickle that would create a file when opened: it is not opened as one."""
    import pickle

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "owned",))

    (tmp_path / "net.pt").write_bytes(pickle.dumps({"weight": Attack()}, protocol=2))
    done = memspike("train", "--model", "digits_net", "--weights", "net.pt", "--out", "x.safetensors", cwd=tmp_path)
    assert done.returncode == 3
    assert "Python objects could run code" in done.stderr
    assert not (tmp_path / "owned").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is missing: a disk that is always full")
def test_output_that_cannot_be_written_is_no_success() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # what waits in a buffer is the harder case
    command = [sys.executable, "-m", "memspike", "--version"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (3, "error output: No space left on device\n")


def test_spikes_that_differ_from_the_program_end_in_exit_code_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from types import SimpleNamespace

    from memspike import line

    monkeypatch.setattr(line, "run", lambda *_: SimpleNamespace(summary={"checks": {"spike_equals_program": False}}))
    monkeypatch.setattr(sys, "argv", ["memspike", "run", "--json", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 4
    assert "spikes and program differ" in capsys.readouterr().err


def test_images_are_those_of_the_classes_that_a_program_knows(files: Path, here: Callable[..., Done], tmp_path: Path) -> None:
    """Labels are numbers: of other classes, or of these in another order, they would score nonsense."""
    data = datasets.load("digits")

    def simulated(classes: list[str], num_classes: int = 10) -> Done:
        few = [split.labels < num_classes for split in (data.train, data.test)]
        arrays = {f"{name}_{what}": getattr(split, what)[rows] for name, split, rows in zip(("train", "test"), (data.train, data.test), few, strict=True)
                  for what in ("images", "labels")}  # fmt: skip
        np.savez(tmp_path / "mine.npz", **arrays, classes=np.array(classes))
        return here("simulate", str(files / "program.safetensors"), "--data", str(tmp_path / "mine.npz"))

    names = [str(number) for number in range(10)]
    assert simulated(names).returncode == simulated([f"digit {name}" for name in names]).returncode == 0, "names of numbers are no others"
    done = simulated([*names[1:], "0"])
    assert done.returncode and "'1' as class 0 where the program has '0' and was trained on digits" in " ".join(done.stderr.split())
    done = simulated(names[:3], 3)
    assert done.returncode and "3 classes where the program scores 10" in " ".join(done.stderr.split())


def test_few_images_are_spread_over_all(files: Path, here: Callable[..., Done], tmp_path: Path) -> None:
    """Where a folder is sorted by class, the first ones would be of one class."""
    data = datasets.load("digits")
    order = np.argsort(data.test.labels, kind="stable")
    arrays = {
        "train_images": data.train.images,
        "train_labels": data.train.labels,
        "test_images": data.test.images[order],
        "test_labels": data.test.labels[order],
    }
    np.savez(tmp_path / "sorted.npz", **arrays)
    words = ["simulate", str(files / "program.safetensors"), "--data", str(tmp_path / "sorted.npz"), "--limit", "20", "--save", str(tmp_path / "few.npz")]
    assert here(*words).returncode == 0
    assert sorted(set(np.load(tmp_path / "few.npz")["labels"].tolist())) == list(range(10))


def test_a_closed_output_is_no_fault_of_ours() -> None:
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m memspike chips >&-"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_scheduler_that_ends_us_leaves_no_drafts(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal; from memspike import cli, files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGTERM)\n"
        "cli.app = lambda **_: files.write_bytes('here', b'x' * 1000)\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert done.returncode == 128 + 15 and list(tmp_path.iterdir()) == []
