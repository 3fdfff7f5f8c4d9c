"""Hash of an engine's settings: the Maker's arguments, and the content of the files they name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import Maker

from definet_flows._moved import former
from definet_flows.errors import InputError
from definet_flows.ledger.vasp.attempts import MACHINE_TAGS
from definet_flows.schemas import content_hash
from definet_flows.schemas.base import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

_MACHINE = frozenset({"vasp_cmd", "vasp_gamma_cmd", "scratch_dir", "wall_time"})
_LABELS = _MACHINE | {
    "name",
    "tags",
    "task_document_kwargs",
    "write_additional_data",
    "store_trajectory",
    "ionic_step_data",
}
"""Fields of a Maker that change neither a relaxation's path nor its end."""

_WRITTEN = {
    "input_set_generator": frozenset({"structure", "prev_incar", "prev_kpts", "prev_dir"}),
    "write_input_set_kwargs": frozenset({"from_prev"}),
}
"""Fields of a Maker that atomate2 fills when the Maker runs."""

_NO_INPUT = frozenset(
    {"command", "directory", "label", "txt", "logfile", "trajectory", "traj_file", "restart", "final_atoms_object_file"}
)
"""Arguments of calculators and optimisers that name programs, or files that a run writes."""


_ARGUMENTS = ("calculator_kwargs", "relax_kwargs", "optimizer_kwargs")
_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")


def settings_hash(maker: Maker, weights: Path | None = None, code: Mapping[str, str] | None = None) -> str:
    """Return the hash of everything that two relaxations must share to be compared.

    A file counts by its content, not by its name: the same potential in another folder is the same engine, another
    potential under the same name is another engine. Arguments without a file count as they are.

    Parameters
    ----------
    maker
        An engine's Maker.
    weights
        The file of a potential's weights that the arguments do not name.
    code
        What an installed code adds, such as its version; None for engines whose arguments say all.

    Raises
    ------
    InputError
        If an argument names a file that is not here or, by a relative name, may be another file elsewhere; or a folder;
        or is an object that has no JSON.
    """
    settings = _settings(maker, maker.as_dict(), ())
    installed = () if code is None else (dict(code),)
    return content_hash("engine", settings, None if weights is None else digest(weights), *installed)


def contents(arguments: Mapping[str, Any]) -> str:
    """Return the hash of a calculator's arguments, files by their content. Raises as `settings_hash`."""
    return content_hash("arguments", _plain(dict(arguments), ("calculator_kwargs",)))


def _settings(maker: object, fields: Mapping[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """Return a Maker's arguments without its labels; those of Makers in its fields likewise."""
    found: dict[str, Any] = {}
    for key, value in fields.items():
        if key == "@version" or key in _LABELS:
            continue
        inner = getattr(maker, key, None)
        if isinstance(inner, Maker) and isinstance(value, dict):
            found[key] = _settings(inner, value, (*place, key))
        else:
            found[key] = _plain(value, (*place, key))
    return found


def _plain(value: Any, place: tuple[str, ...]) -> Any:  # noqa: ANN401 - any JSON
    """Return an argument as JSON, files as their content."""
    if isinstance(value, dict):
        dropped = _WRITTEN.get(place[-1], frozenset()) | {"@version"}
        dropped |= _MACHINE if "run_vasp_kwargs" in place else frozenset()
        dropped |= MACHINE_TAGS if place[-1] == "user_incar_settings" else frozenset()
        kept = {key: part for key, part in value.items() if key not in dropped}
        return {key: _plain(part, (*place, str(key))) for key, part in kept.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, place) for part in value]
    value = getattr(value, "value", value)  # an enum's value
    if place[-1] == "@module":
        return former(value)  # moving a class changes no settings
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, str | os.PathLike):
        msg = f"{'.'.join(place)} = {value!r} is not JSON: give numbers, texts, lists and dicts, objects as files"
        raise InputError(msg)
    text = os.fspath(value)
    if place[-1] in _NO_INPUT and any(name in place for name in _ARGUMENTS):
        return text
    return _with_contents(text, place)


def _with_contents(text: str, place: tuple[str, ...]) -> str:
    """Return a text in which every file's name is replaced by the hash of its content."""
    whole = _named(text, place, alone=True)
    if whole != text or " " not in text:
        return whole
    return " ".join(_named(word, place, alone=False) for word in text.split(" "))


def _named(text: str, place: tuple[str, ...], *, alone: bool) -> str:
    path = Path(text.removeprefix("file://")).expanduser() if text[:1] in ("/", "~", "f") else Path(text)
    looks = "/" in text or _SUFFIX.search(text) is not None
    setting = f"{'.'.join(place)} = {text!r}"
    if path.is_absolute():
        if os.path.isfile(path):  # noqa: PTH113 - False, where Path raises on a text too long to be a name
            return f"sha256:{digest(path)}"
        if os.path.isdir(path) and (alone and "calculator_kwargs" in place):  # noqa: PTH112
            msg = f"{setting} is a folder, whose content is unknown: name the file in it"
            raise InputError(msg)
        if _SUFFIX.search(text) or (alone and "calculator_kwargs" in place):
            msg = f"{setting}: no such file on this machine, so its content is unknown: put it there"
            raise InputError(msg)
    elif alone and looks and os.path.isfile(path):  # noqa: PTH113
        msg = f"{setting} is a file here but not where jobs run: name it by its absolute path, {path.absolute()}"
        raise InputError(msg)
    return text
