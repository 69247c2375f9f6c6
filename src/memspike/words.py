"""Words: text of files and networks, made harmless for whoever reads it."""

import re

# Control characters (ANSI codes begin with one) and the marks that turn the direction of text around: they could hide or rewrite what a reader sees.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with every control character and every change of direction replaced by a visible mark."""
    return _UNSEEN.sub("\ufffd", text)
