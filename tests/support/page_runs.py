"""Run the code blocks of a page as a reader would: one folder, one Python, one shell command after the other."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import typer.main
from typer.testing import CliRunner

from definet_flows.cli import app

if TYPE_CHECKING:
    from page_blocks import Block

_SHELL = re.compile(r"[|<>&;$*`~]")
COMMAND = typer.main.get_command(app)


class Page:
    """What the blocks of a page share: the names that Python knows."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__page__"}

    def run(self, block: Block) -> str:
        """Run a block in the working folder and return what it prints, paths from there; raise if it fails."""
        printed = self._python(block) if block.language == "python" else self._console(block)
        return printed.replace(f"{Path.cwd()}/", "")

    def _python(self, block: Block) -> str:
        code = compile("\n" * (block.span[0] + 1) + block.text, "page", "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self.names)  # noqa: S102 - the pages of this repository
        return printed.getvalue()

    def _console(self, block: Block) -> str:
        return "".join(_definet(line) if _is_plain(line) else _shell(line) for line in block.commands)


def _is_plain(line: str) -> bool:
    """Whether a line is a command of the package alone: it runs here, because an import of torch takes seconds."""
    return line.startswith("definet ") and not _SHELL.search(line.split(" #", maxsplit=1)[0])


def _definet(line: str) -> str:
    done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done.stdout


def _shell(line: str) -> str:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    with_path = ["bash", "-c", f'PATH="{path}:$PATH"; {line}']
    done = subprocess.run(with_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


def unknown(line: str) -> list[str]:
    """Return what a command line of the package names and the package does not have: commands and options."""
    words = shlex.split(line.replace("...", ""), comments=True)[1:]
    command: Any = COMMAND
    context = typer.Context(command, info_name="definet")
    while words and getattr(command, "commands", None) and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return [words[0]] if not getattr(command, "invoke_without_command", False) else []
        command, words = found, words[1:]
    known = {"--help"} | {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return [word for word in words if re.match(r"--?[a-z]", word) and word not in known]
