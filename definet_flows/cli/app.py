"""The typer application, and how errors leave it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from definet_flows import __version__
from definet_flows.cli.plain import PlainConsole
from definet_flows.errors import InputError, LeftOutWarning
from definet_flows.foreign import one_line
from definet_flows.yaml_file import read_mapping

console = PlainConsole()
errors = PlainConsole(stderr=True)

DID_NOT_FINISH = Text.assemble(
    ("the flow did not finish", "bold red"), ": see the jobs' folder; the same command goes on from here"
)

BAD_INPUT = 2
INTERRUPTED = 130


class _OneLineErrors(TyperGroup):
    """Bad input ends in a single line and exit code 2, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - of click, which typer carries inside
        """Run the command."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", LeftOutWarning)
                warnings.showwarning = _one_line  # type: ignore[assignment]  # takes the rest as *_
                return super().invoke(ctx)
        except (InputError, typer.TyperException) as error:
            message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
            message = " ".join(message.split())  # a missing choice lists its choices below each other
            errors.print(Text.assemble(("error:", "bold red"), " ", one_line(message)), soft_wrap=True)
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            errors.print("interrupted: the same command goes on where this stopped")
            raise typer.Exit(INTERRUPTED) from None


def _one_line(message: Warning | str, *_: object) -> None:
    errors.print(Text.assemble(("warning:", "yellow"), " ", one_line(str(message))), soft_wrap=True)


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Point defects by the thousand: enumerate, pre-relax with DefiNet, relax, record, and prove the saving.",
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"definet {__version__}")
        raise typer.Exit


@app.callback()
def _definet(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Keep `definet COMMAND` a group; refuse settings that jobflow, when it is imported, would end in a traceback."""
    path = Path(os.environ.get("JOBFLOW_CONFIG_FILE", "~/.jobflow.yaml")).expanduser()
    if path.is_file():
        read_mapping(path, "jobflow's settings")
