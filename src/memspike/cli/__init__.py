"""The command line: a thin layer over the Python verbs, with exit codes and errors for people."""

import os
import signal
import sys

from rich.markup import escape

from memspike.cli import listings, verbs
from memspike.cli.app import Interrupted, app
from memspike.cli.speech import speech
from memspike.errors import MemspikeError
from memspike.words import clean

__all__ = ["app", "main", "verbs"]

for _name, _listing, _examples in (
    ("show", listings.show, ("memspike show program.safetensors", "memspike show predictive", "memspike show wan2022-hfox")),
    ("chips", listings.chips, ("memspike chips",)),
    ("zoo", listings.zoo_, ("memspike zoo", "memspike simulate lenet-mnist-4 --data path/to/mnist")),
    ("doctor", listings.doctor, ("memspike doctor",)),
):
    _title = "Example" if len(_examples) == 1 else "Examples"
    app.command(_name, rich_help_panel="What there is", epilog="\n\n  ".join((f"{_title}:", *_examples)))(_listing)


def _forget_output() -> None:
    """What is left in the buffer of stdout and cannot be written is not tried again."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flush() -> None:
    if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is None where the shell closed it
        sys.stdout.flush()


def _terminated(number: int, frame: object) -> None:
    """An end in which drafts of files are still cleared away; a scheduler's SIGTERM would be one without."""
    sys.exit(128 + number)


def main() -> None:
    """Run the command line; a user's mistake ends in one clear message and an exit code, never in a traceback."""
    # Threads that wait by spinning make a shared machine several times slower; torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        try:
            app(standalone_mode=True)
        finally:
            _flush()
    except MemspikeError as error:
        if speech.debug:
            raise
        console = speech.err()
        console.print(f"[bold red]error[/bold red] {escape(clean(str(error)))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except Interrupted:
        speech.err().print("interrupted; a training, and a study of many chips, go on where they were when the same command is given again", soft_wrap=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `memspike show FILE | head`
        _forget_output()
        sys.exit(1)
    except OSError as error:  # a disk that is full, a name that is too long
        if speech.debug:
            raise
        _forget_output()
        speech.err().print(f"[bold red]error[/bold red] {escape(clean(str(error.filename or 'output')[:200]))}: {error.strerror or error}", soft_wrap=True)
        sys.exit(3)
    except Exception as error:  # a fault of ours: say so, and keep the traceback for those who ask
        if speech.debug:
            raise
        speech.err().print(f"[bold red]internal error[/bold red] {type(error).__name__}: {escape(clean(str(error)))}", soft_wrap=True)
        speech.err().print(
            "  this is a fault of memspike; `memspike --debug ...` shows where. Please report it with the output of `memspike doctor`", markup=False
        )
        sys.exit(1)
