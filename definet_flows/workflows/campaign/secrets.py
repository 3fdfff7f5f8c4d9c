"""Files of settings that hold a password and that others on this machine can read."""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

import jobflow
from fireworks.fw_config import LAUNCHPAD_LOC

from definet_flows.settings import settings_file

if TYPE_CHECKING:
    from collections.abc import Iterable

_OTHERS = stat.S_IRGRP | stat.S_IROTH
_PROJECTS = "~/.jfremote"  # of jobflow-remote
_SUFFIXES = (".yaml", ".yml", ".json", ".toml")
_SECRET = re.compile(
    r"""(?ix) (?:password|passwd|passphrase|secret|token|api_?key|access_key)\w* ["']? \s* [:=] \s*
        (?! ["']{2} | null\b | none\b | ~ ) ["']? [^\s"'\#,}\]]
        | :// [^/\s:@]+ : [^/\s@]+ @"""
)


def exposed(more: Iterable[Path] = ()) -> list[str]:
    """Return a line for each file of settings that holds a password and that others can read, with the remedy.

    Parameters
    ----------
    more
        Files to look at beside those of this package, jobflow, FireWorks and jobflow-remote.
    """
    known = dict.fromkeys(path.expanduser().absolute() for path in (*_files(), *more))
    return [
        f"{path} holds a password, and others on this machine can read it: chmod 600 {shlex.quote(str(path))}"
        for path in known
        if path.is_file() and path.stat().st_mode & _OTHERS and _holds_secret(path)
    ]


def _files() -> list[Path]:
    """Return the paths of settings and descriptions of queues; some may have no file."""
    folder = Path(os.environ.get("JFREMOTE_PROJECTS_FOLDER", _PROJECTS)).expanduser()
    projects = sorted(path for path in folder.glob("*") if path.suffix in _SUFFIXES) if folder.is_dir() else []
    launchpad = [Path(LAUNCHPAD_LOC)] if LAUNCHPAD_LOC else []
    return [settings_file(), Path(jobflow.SETTINGS.CONFIG_FILE), *launchpad, *projects]


def _holds_secret(path: Path) -> bool:
    """Say whether a line that is no comment gives a password, alone or in a connection string."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(_SECRET.search(line) for line in lines if not line.lstrip().startswith("#"))
