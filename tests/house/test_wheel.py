"""The wheel runs without the repository around it: chips, digits and the report's page are package data."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_walks_the_line_away_from_the_repository(tmp_path: Path) -> None:
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(hatchling, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import memspike; assert 'site' in memspike.__file__, memspike.__file__\n"
        "sys.argv = 'memspike run --epochs 1 --convergence-epochs 1 --finetune-epochs 1 --cost-images 2 --check-images 8 --out out'.split()\n"
        "from memspike.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert {"program.safetensors", "report.html", "result.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
