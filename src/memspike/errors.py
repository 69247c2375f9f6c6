"""What went wrong, where, and how to cure it: the one way memspike refuses something."""


class MemspikeError(Exception):
    """A user's input was refused, or a promise could not be kept.

    Attributes:
        what: what came and what was expected.
        where: file, layer, op or option; empty when the door adds it later.
        cure: what the reader can do about it; may be empty.
        exit_code: what the command line returns (2 wrong use, 3 a file refused, 4 a check failed).
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.cure = cure

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.cure}" if self.cure else head


class ModelError(MemspikeError):
    """A network holds something that spikes cannot carry, or that memspike does not know."""


class DataError(MemspikeError):
    """A data set is missing, incomplete or inconsistent."""


class TrainingError(MemspikeError):
    """A training option makes no sense, a checkpoint belongs to another training, or another one runs in the same folder."""


class ProgramError(MemspikeError):
    """An integer program breaks a law: a name, a shape, a type, or a sum that would overflow."""


class ChipError(MemspikeError):
    """A chip description is incomplete or impossible."""


class MappingError(MemspikeError):
    """A program does not fit the chip it should be mapped onto."""


class SimulationError(MemspikeError):
    """Images or options that a simulator cannot run."""


class CostError(MemspikeError):
    """Activity that does not belong to the mapping it should be costed on."""


class FileRefused(MemspikeError):
    """A file is damaged, is not what its name says, or cannot be written."""

    exit_code = 3


class CheckFailed(MemspikeError):
    """A check that was asked for did not hold."""

    exit_code = 4


def expect(thing: object, kind: type | tuple[type, ...], error: type[MemspikeError], cure: str) -> None:
    """Raises `error` where a door of memspike is given another kind of thing than it takes; the `cure` says where one comes from."""
    if isinstance(thing, kind):
        return
    kinds = [an(each.__name__) for each in (kind if isinstance(kind, tuple) else (kind,)) if each is not type(None)]
    raise error(f"expected {' or '.join(kinds)}, got {kind_of(thing)}", cure=cure)


def kind_of(thing: object) -> str:
    """What somebody gave, for people: a text or a class by its name, anything else by its kind."""
    return f"the class {thing.__name__}" if isinstance(thing, type) else repr(thing) if isinstance(thing, str) else an(type(thing).__name__)


def an(word: str) -> str:
    """The word with its article."""
    return f"an {word}" if word[0] in "aeiouAEIOU" else f"a {word}"


def first_line(error: BaseException) -> str:
    """What another library says, in one line of at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
