"""Numbers as people read them, and texts that cannot hide anything."""

import pytest

from memspike.reporter.items import Cell, pretty, shown
from memspike.words import clean


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4.2e-9, "J", "4.20 nJ"),
        (5e-12, "m2", "5.00 µm²"),
        (3.1e-6, "m2", "3.10 mm²"),
        (2e-6, "s", "2.00 µs"),
        (0.0, "W", "0 W"),
        (0.99315, "%", "99.31 %"),
        (0.8914, "share", "89.1 %"),
        (9.7961, "x", "9.80×"),
        (0.00013, "points", "0.01 points"),
        (-0.00001, "points", "0.00 points"),
        ("2e-08 s", "quantity", "20.0 ns"),
        (10000, "", "10 000"),
        (1234567.8, "", "1 234 568"),
        (0.51234, "", "0.5123"),
        (None, "J", "–"),
        (float("nan"), "J", "not finite"),
        ("> 9.8×", "x", "> 9.8×"),
    ],
)
def test_shown(value: Cell, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_pretty_touches_only_units() -> None:
    assert [pretty(text) for text in ("1.0 um2", "1.0 us", "1.0 u", "1.0 ohm", "1.0 m2")] == ["1.0 µm²", "1.0 µs", "1.0 u", "1.0 ohm", "1.0 m²"]


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\x7f", "\u202e", "\u2066", "\u2028", "\ud800"])
def test_clean_shows_what_would_be_unseen(character: str) -> None:
    assert clean(f"a{character}b") == "a\ufffdb"


def test_clean_leaves_text_alone() -> None:
    assert clean("naïve 汉字 🙂 [b] <i> & \t\n") == "naïve 汉字 🙂 [b] <i> & \t\n"
