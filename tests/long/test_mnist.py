"""LeNet on MNIST, the whole line as a user types it: nothing lost at 4 bits, and spikes exact on all ten thousand images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("MEMSPIKE_DATA") or Path(__file__).parents[3] / "shared" / "data") / "mnist"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is missing; set MEMSPIKE_DATA to the folder that holds mnist/train.parquet"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lenet"
    words = ["run", "--model", "lenet", "--data", str(DATA), "--bits", "4", "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-m", "memspike", *words], env=environment, check=True, timeout=3600)
    return out


def test_four_bits_lose_at_most_five_images_of_ten_thousand(run: Path) -> None:
    found = json.loads((run / "result.json").read_text())
    assert found["num_test_images"] == 10_000
    assert found["bits"] == {"activation": 4, "weight": 4, "image": 4, "dither": 0, "lines": 1, "low": 0, "high": 255}
    assert found["accuracy"]["fp32"] >= 0.99
    assert found["accuracy"]["program"] >= found["accuracy"]["fp32"] - 0.0005


def test_spikes_equal_the_program_in_every_count(run: Path) -> None:
    checks = json.loads((run / "result.json").read_text())["checks"]
    assert checks["spike_equals_program"]
    assert checks["images_checked"] == 10_000
    assert set(checks["differing_counts"].values()) == {0}


def test_the_command_line_saves_what_the_plain_interpreter_computes(run: Path, tmp_path: Path) -> None:
    from memspike.program import Program
    from memspike.storage import load

    for fidelity in ("ideal", "spike"):
        words = ["simulate", run / "program.safetensors", "--data", DATA, "--fidelity", fidelity, "--limit", "2000", "--save", tmp_path / f"{fidelity}.npz"]
        subprocess.run([sys.executable, "-m", "memspike", *map(str, words)], check=True, timeout=600)
        saved = np.load(tmp_path / f"{fidelity}.npz")
        np.testing.assert_array_equal(saved["scores"], load(run / "program.safetensors", Program).evaluate(saved["images"]))
