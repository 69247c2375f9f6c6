"""Checkpoints: all of the state comes back, another training's is refused, a damaged one too."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from devices import device, law
from memspike.errors import FileRefused, TrainingError
from memspike.files import read_tensors, write_tensors
from memspike.trainer import Hardening, Recipe, Training
from memspike.trainer.checkpoint import Folder, Progress, digest
from memspike.trainer.training import Silence
from random_models import Noise, random_model


class Model(nn.Module):
    """Parameters of every kind that a state dict may hold: tied ones, channels last, whole numbers, truth values, double."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3)
        self.tied = self.conv.weight
        self.norm = nn.BatchNorm2d(4)
        self.log_step = nn.Parameter(torch.rand((), dtype=torch.float64))
        self.register_buffer("mask", torch.rand(5) > 0.5)
        self.to(memory_format=torch.channels_last)


def stepped(seed: int) -> tuple[Model, torch.optim.AdamW]:
    model = Model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        (model.conv(torch.full((2, 3, 5, 5), 0.1 * step + 0.1)).square().sum() * model.log_step).backward()
        optimizer.step()
    return model, optimizer


def test_everything_comes_back(tmp_path: Path) -> None:
    model, optimizer = stepped(0)
    rows = [{"stage": "float", "epoch": 1, "loss": 0.1 + 0.2, "accuracy": 1 / 3}]
    Folder(tmp_path / "new" / "folder", "key").save("float", model, optimizer, Progress("float", 3, 7, 1 / 7, rows))
    other, its = stepped(1)
    reached = Folder(tmp_path / "new" / "folder", "key").load("float", other, its)
    assert reached == Progress("float", 3, 7, 1 / 7, rows)
    for name, value in model.state_dict().items():
        found = other.state_dict()[name]
        assert torch.equal(found, value) and found.dtype == value.dtype and found.stride() == value.stride(), name
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            found = its.state_dict()["state"][index][name]
            assert torch.equal(found, value) and found.dtype == value.dtype and found.stride() == value.stride(), (index, name)
    assert other.tied is other.conv.weight


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    model, optimizer = stepped(0)
    Folder(None, "key").save("float", model, optimizer, Progress())
    assert Folder(None, "key").load("float", model, optimizer) is None
    assert Folder(tmp_path, "key").load("float", model, optimizer) is None


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    model, optimizer = stepped(0)
    Folder(tmp_path, "key").save("float", model, optimizer, Progress())
    with pytest.raises(TrainingError) as error:
        Folder(tmp_path, "other").load("float", model, optimizer)
    what = "the checkpoint belongs to another training (model, its first weights, data, bits, recipe or seed differ, or one is compiled)"
    cure = "to go on, make the model from the same weights (torch.manual_seed before it); else use another folder, or delete this one"
    assert str(error.value) == f"{tmp_path / 'float.safetensors'}: {what}\n  {cure}"


def test_a_damaged_checkpoint_is_refused_wherever_it_is_damaged(tmp_path: Path) -> None:
    model, optimizer = stepped(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folder, path = Folder(tmp_path, "key"), tmp_path / "float.safetensors"
    folder.save("float", model, optimizer, Progress())
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1], *(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(0, len(whole), 101))):
        path.write_bytes(damaged)
        with pytest.raises(FileRefused) as error:
            folder.load("float", model, optimizer)
        assert error.value.where == str(path) and error.value.cure == "delete it to start this part of the training anew"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model, optimizer = stepped(0)
    with pytest.raises(FileRefused) as error:
        Folder(tmp_path / "file", "key").save("float", model, optimizer, Progress())
    assert str(error.value) == f"{tmp_path / 'file'}: is no folder that checkpoints can go to: File exists"


def test_only_one_training_runs_in_a_folder(tmp_path: Path) -> None:
    first, second = Folder(tmp_path / "new", "key"), Folder(tmp_path / "new", "key")
    with first.alone():
        with pytest.raises(TrainingError) as error, second.alone():
            pass
        assert str(error.value) == f"{tmp_path / 'new'}: another training runs in this folder\n  wait for it, or use another folder"
    with second.alone(), Folder(None, "key").alone(), Folder(None, "key").alone():
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(FileRefused, match="is no folder that checkpoints can go to"), Folder(tmp_path / "file", "key").alone():
        pass
    (tmp_path / "new" / "deep").mkdir()
    (tmp_path / "new" / "deep" / ".lock").mkdir()
    with pytest.raises(FileRefused, match="is no folder that checkpoints can go to"), Folder(tmp_path / "new" / "deep", "key").alone():
        pass


def test_a_stage_belongs_to_the_network_it_started_from(tmp_path: Path) -> None:
    data, folder = Noise.of(24, 6), tmp_path / "run"
    recipe = Recipe(epochs=1, convergence_epochs=1, finetune_epochs=1, batch_size=8)
    training = Training(random_model(3, 2, in_place=False), data, recipe=recipe, folder=folder)
    floating = training.floating()
    counts = training.counts(floating)
    assert digest(training.counts(floating)) == digest(counts)
    other = training.control(floating)
    for stage, again in (("convergence", lambda: training.counts(other)), ("control", lambda: training.control(counts))):
        with pytest.raises(TrainingError, match=f"this stage, {stage}, started from another network"):
            again()
    hardening = Hardening(device(programming=law("wan2022")), epochs=1)
    training.harden(counts, floating, hardening)
    with pytest.raises(TrainingError, match=r"this stage, hardening-\w+, started from another network"):
        training.harden(training.rounded(floating), floating, hardening)


def test_older_checkpoints_do_not_say_what_they_started_from(tmp_path: Path) -> None:
    model, optimizer = stepped(0)
    Folder(tmp_path, "key").save("counts", model, optimizer, Progress("counts", 1), "abc")
    metadata, arrays = read_tensors(tmp_path / "counts.safetensors")
    about = json.loads(metadata["checkpoint"])
    with pytest.raises(TrainingError, match="started from another network"):
        Folder(tmp_path, "key").load("counts", model, start="other")
    del about["start"]
    write_tensors(tmp_path / "counts.safetensors", {"checkpoint": json.dumps(about)}, arrays)
    assert Folder(tmp_path, "key").load("counts", model, start="other") == Progress("counts", 1)


@pytest.fixture
def minds_interruptions() -> Iterator[None]:
    """As in a shell; what runs in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("minds_interruptions")
def test_an_interrupted_training_has_written_where_it_was(tmp_path: Path) -> None:
    """Ctrl-C waits for the end of the step, and the training goes on to the same bits; a second one does not wait."""
    data = Noise.of(40, 6)

    class Impatient(Silence):
        def __init__(self, at: int, times: int, epoch: int = 0) -> None:
            self.at, self.times, self.steps, self.ends = at, times, 0, epoch

        def epoch(self, stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
            if epoch == self.ends:
                signal.raise_signal(signal.SIGINT)

        def step(self, stage: str, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
            self.steps += 1
            for _ in range(self.times * (self.steps == self.at)):
                signal.raise_signal(signal.SIGINT)

    def training(folder: Path | None, watcher: Silence) -> Training:
        recipe = Recipe(epochs=2, convergence_epochs=0, finetune_epochs=0, batch_size=8)
        return Training(random_model(3, 2, in_place=False), data, recipe=recipe, folder=folder, watcher=watcher)

    whole = digest(training(None, Silence()).floating())
    for at, times in ((3, 1), (5, 1), (10, 1), (3, 2)):
        folder = tmp_path / f"{at}-{times}"
        with pytest.raises(KeyboardInterrupt):
            training(folder, Impatient(at, times)).floating()
        assert (folder / "float.safetensors").exists() == (times == 1)
        counting = Impatient(99, 0)
        assert digest(training(folder, counting).floating()) == whole
        assert counting.steps == (10 - at if times == 1 else 10)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "last", Impatient(99, 0, epoch=2)).floating()
    counting = Impatient(99, 0)
    assert digest(training(tmp_path / "last", counting).floating()) == whole and counting.steps == 0, "an interruption after the last step is one"
