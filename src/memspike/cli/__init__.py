"""The command line: a thin layer over the Python verbs, with exit codes and errors for people."""

import os
import sys

from rich.markup import escape

from memspike.cli import listings, verbs
from memspike.cli.app import app
from memspike.cli.speech import clean, speech
from memspike.errors import MemspikeError

__all__ = ["app", "main", "verbs"]

for _name, _listing in (("show", listings.show), ("chips", listings.chips), ("zoo", listings.zoo_), ("doctor", listings.doctor)):
    app.command(_name, rich_help_panel="What there is")(_listing)


def main() -> None:
    """Run the command line; a user's mistake ends in one clear message and an exit code, never in a traceback."""
    # Threads that wait by spinning make a shared machine several times slower; torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(standalone_mode=True)
    except MemspikeError as error:
        if speech.debug:
            raise
        console = speech.err()
        console.print(f"[bold red]error[/bold red] {escape(clean(str(error)))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        speech.err().print("interrupted; the same command goes on from the last checkpoint")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `memspike show FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # a fault of ours: say so, and keep the traceback for those who ask
        if speech.debug:
            raise
        speech.err().print(f"[bold red]internal error[/bold red] {type(error).__name__}: {escape(clean(str(error)))}", soft_wrap=True)
        speech.err().print(
            "  this is a fault of memspike; `memspike --debug ...` shows where. Please report it with the output of `memspike doctor`", markup=False
        )
        sys.exit(1)
