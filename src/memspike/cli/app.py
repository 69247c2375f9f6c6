"""The command that verbs and listings belong to, and what can be said to all of them."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from memspike.cli.speech import speech


class Interrupted(Exception):
    """Ctrl-C while a verb was at work; typer would end in silence."""


class Verbs(TyperGroup):
    """The group of all verbs."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


app = typer.Typer(
    cls=Verbs,
    name="memspike",
    help="Deep networks on spiking memristor hardware: train to spike counts, compile, map, simulate, and cost the chip.",
    epilog="Start with [bold]memspike run[/bold]: digits, a small network, 4 bits, about a minute on two cores.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        from importlib import metadata

        print(f"memspike {metadata.version('memspike')}")
        raise typer.Exit


@app.callback()
def _options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    speech.quiet, speech.debug = quiet, debug
