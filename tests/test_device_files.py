"""Devices that people describe: a TOML file, perhaps with a table of measured levels beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chips import test_chip
from memspike.cell import Device, Law
from memspike.chip import Chip
from memspike.errors import ChipError, MemspikeError
from memspike.physics.device import write
from memspike.storage import device_names, load, load_chip, load_device, save

DEVICE = """
name = "mine"
levels = 4
drift = { model = "nandakumar2019" }
g_min = { value = 1e-6, unit = "S", source = "measured", standing = "primary" }
g_max = { value = 1e-4, unit = "S", source = "measured", standing = "primary" }

[programming]
model = "constant"
parameters.std = { value = 0.03, unit = "1", source = "measured", standing = "primary" }

[verify]
max_pulses = 5
tolerance = { value = 0.01, unit = "1", source = "measured", standing = "primary" }

[stuck]
low = { value = 0.1, unit = "1", source = "measured", standing = "primary" }
high = { value = 0.02, unit = "1", source = "measured", standing = "primary" }
high_g = { value = 3e-4, unit = "S", source = "measured", standing = "primary" }
"""
MEASURED = 'name = "mine"\nconductances = "levels.csv"\nconductances_source = "our probe station, 3 May"\n'


def described(folder: Path, text: str, table: str | None = None) -> Path:
    if table is not None:
        (folder / "levels.csv").write_text(table)
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


def test_a_device_is_read_from_its_file(tmp_path):
    device = load_device(described(tmp_path, DEVICE))
    assert device.programming is not None and device.programming.parameters["std"].value == 0.03
    assert device.verify is not None and device.verify.max_pulses == 5
    assert device.stuck is not None and device.stuck.high_g is not None and device.stuck.low_g is None


@pytest.mark.parametrize("name", device_names())
def test_a_chip_with_any_cells_is_saved_and_loaded(name, tmp_path):
    chip = test_chip().with_device(load_device(name))
    assert load(save(chip, tmp_path / "chip.json"), Chip) == chip
    unruly = chip.with_device(replace(chip.crossbar.device, programming=Law("wan", {})))
    with pytest.raises(ChipError, match=r"chip.json: device .*: no law is called 'wan'"):
        load_chip(save(unruly, tmp_path / "chip.json"))


def test_there_are_the_devices_that_are_promised():
    names = {"chen2017-stuck", "cmo-hfox", "liu2017-taox", "milo2021-rram", "mnsim-varied", "nandakumar2019-pcm", "neurosim-rram", "wan2022-hfox"}
    assert names <= set(device_names())
    stuck = load_device("chen2017-stuck").stuck
    assert stuck is not None and (stuck.low.value, stuck.high.value) == (0.0904, 0.0175)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("0.03", "-0.03", "programming.parameters.std: -0.03 1 is no hardware number"),
        ('model = "constant"', 'model = "constnat"', "device mine: no law is called 'constnat'"),
        ("parameters.std", "parameters.sigma", "the law 'constant' takes std, got sigma"),
        ('1e-4, unit = "S"', '100, unit = "uS"', "g_max: is given in 'uS'; chips are in SI, here in 'S'"),
        ("max_pulses = 5", "max_pulses = 0", "max_pulses is 0"),
        ("high_g", "high_gg", "stuck.high_gg: is no known key\n  did you mean 'high_g'?"),
        ("levels = 4", "levels = 4\nvariation = 1", "variation: is no known key"),
    ],
)
def test_a_mistake_in_a_device_is_named_with_its_place(old, new, error, tmp_path):
    path = described(tmp_path, DEVICE.replace(old, new))
    with pytest.raises(MemspikeError) as caught:
        load_device(path)
    assert str(caught.value).startswith(str(path)) and error in str(caught.value)


def test_a_device_that_does_not_exist():
    with pytest.raises(MemspikeError, match=r"no device is called 'wan2022'\n  did you mean 'wan2022-hfox'\? devices are: chen2017-stuck"):
        load_device("wan2022")
    with pytest.raises(MemspikeError, match="mine.toml: cannot be read"):
        load_device("mine.toml")


def test_measured_levels_come_from_a_table_beside_the_file(tmp_path):
    device = load_device(described(tmp_path, MEASURED, "g_siemens\n1e-6\n4.5e-6\n\n9e-6\n"))
    assert device.conductances == (1e-6, 4.5e-6, 9e-6) and device.levels == 3 and device.programming is None
    assert (device.g_min.value, device.g_max.value, device.g_max.standing) == (1e-6, 9e-6, "primary")
    assert device.conductances_source == device.g_max.source == "our probe station, 3 May"


def test_measured_levels_may_bring_the_error_of_a_write(tmp_path):
    table = "level, g_siemens, std_siemens\n0, 1e-6, 1e-8\n1, 4.5e-6, 3e-7\n2, 9e-6, 2e-7\n"
    device = load_device(described(tmp_path, MEASURED, table))
    assert device.programming is not None and device.programming.model == "measured"
    cells = np.repeat([[0], [1], [2]], 20_000, axis=1)
    written = write(device, cells, 2, np.random.default_rng(0))
    assert np.std(written.g, axis=1) == pytest.approx([1e-8, 3e-7, 2e-7], rel=0.02)
    assert written.g.mean(axis=1) == pytest.approx(device.level_conductances(2), rel=0.002)


def test_a_chip_may_have_measured_cells(tmp_path):
    """The preset's own text, its cells replaced by a table."""
    from importlib import resources

    text = (resources.files("memspike") / "chips" / "predictive.toml").read_text(encoding="utf-8")
    start, stop = text.index("[crossbar.device]"), text.index("[[components]]")
    cells = '[crossbar.device]\nname = "mine"\nconductances = "levels.csv"\n\n'
    table = "g_siemens\n" + "\n".join(f"{1e-6 * (level + 1) ** 1.5:.6e}" for level in range(16))
    chip = load_chip(described(tmp_path, text[:start] + cells + text[stop:], table))
    assert replace(chip, crossbar=load_chip("predictive").crossbar) == load_chip("predictive")
    device: Device = chip.crossbar.device
    assert device.levels == 16 and device.conductances is not None and device.conductances[3] == 8e-6 and device.conductances_source == "levels.csv"


@pytest.mark.parametrize(
    ("table", "line", "error"),
    [
        ("", 1, "has the columns (none)\n  expected a header with g_siemens (and maybe level, std_siemens), then rows of numbers"),
        ("1e-6\n2e-6\n", 1, "has the columns 1e-6"),
        ("g_siemens,g_max\n1e-6,1\n", 1, "has the columns g_siemens, g_max"),
        ("g_siemens,g_siemens\n1e-6,1\n", 1, "has the columns g_siemens, g_siemens"),
        ("g_siemens\n1e-6\n2e-6,3\n", 3, "has 2 columns, the header 1"),
        ("g_siemens\n1e-6\n\nhigh\n", 4, "holds high; expected numbers"),
        (
            "g_siemens\n1e-6\n1e-6\n",
            3,
            "g_siemens is 1e-06; expected more than 1e-06 and less than 1\n  one row per level, lowest conductance first, in siemens",
        ),
        ("g_siemens\n0\n1e-6\n", 2, "g_siemens is 0; expected more than 0"),
        ("g_siemens\n1e-6\nnan\n", 3, "g_siemens is nan"),
        ("g_siemens\n0.5\n40\n", 3, "g_siemens is 40; expected more than 0.5 and less than 1"),
        ("g_siemens,std_siemens\n1e-6,-1e-7\n", 2, "std_siemens is -1e-07; expected zero or more"),
        ("level,g_siemens\n0,1e-6\n2,2e-6\n", 3, "level is 2; expected 1"),
    ],
)
def test_a_mistake_in_a_table_is_named_with_its_line(table, line, error, tmp_path):
    path = described(tmp_path, MEASURED, table)
    with pytest.raises(MemspikeError) as caught:
        load_device(path)
    assert str(caught.value).startswith(f"{path}: {tmp_path / 'levels.csv'}: line {line}: {error}")


def test_a_table_is_not_contradicted_in_silence(tmp_path):
    with pytest.raises(MemspikeError, match="levels: is given here and comes from levels.csv\n  leave it out here"):
        load_device(described(tmp_path, MEASURED + "levels = 2\n", "g_siemens\n1e-6\n2e-6\n"))
    both = MEASURED + 'programming = { model = "wan2022" }\n'
    assert load_device(described(tmp_path, both, "g_siemens\n1e-6\n4e-5\n")).programming is not None
    with pytest.raises(MemspikeError, match="programming: is given here and comes from levels.csv"):
        load_device(described(tmp_path, both, "g_siemens,std_siemens\n1e-6,0\n4e-5,0\n"))
    with pytest.raises(MemspikeError, match="holds 1 levels; a cell has at least 2"):
        load_device(described(tmp_path, MEASURED, "g_siemens\n1e-6\n"))
    (tmp_path / "levels.csv").unlink()
    with pytest.raises(MemspikeError, match="levels.csv: cannot be read"):
        load_device(tmp_path / "mine.toml")
