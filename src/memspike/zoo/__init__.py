"""Programs that come with memspike: reference networks trained to 4-bit counts and weights by the default recipe, each with its provenance in its notes."""

import difflib
from importlib import resources
from pathlib import Path

from memspike import storage
from memspike.errors import FileRefused
from memspike.mapping import Mapping
from memspike.program import Program

_SUFFIX = ".safetensors"


def program_names() -> tuple[str, ...]:
    """The programs that come with memspike, for `load_program`."""
    return tuple(sorted(entry.name.removesuffix(_SUFFIX) for entry in resources.files(__name__).iterdir() if entry.name.endswith(_SUFFIX)))


def load_program(name_or_path: str | Path) -> Program:
    """A program by its name (`"lenet-mnist-4"`, see `program_names`), or from a file.

    `program.notes` says how it was trained, on which data, and what it scores on the test images. Raises FileRefused when there is no such program.
    """
    thing = load_runnable(name_or_path)
    if isinstance(thing, Mapping):
        raise FileRefused("holds a Mapping; expected a Program", where=str(name_or_path), cure="its program is the mapping's `program`")
    return thing


def load_runnable(name_or_path: str | Path) -> Program | Mapping:
    """A program by name or from a file, or a mapping from a file. Raises FileRefused when it is neither."""
    name = str(name_or_path)
    if name in program_names():
        with resources.as_file(resources.files(__name__) / f"{name}{_SUFFIX}") as path:
            return storage.load(path, Program)
    if not Path(name).exists() and Path(name).suffix == "":
        close = difflib.get_close_matches(name, program_names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise FileRefused(f"no program is called {name!r}", cure=f"{hint}programs are: {', '.join(program_names())}; or give the path of a file")
    thing = storage.load(name_or_path)
    if not isinstance(thing, Program | Mapping):
        raise FileRefused(f"holds a {type(thing).__name__}; expected a program or a mapping", where=name)
    return thing
