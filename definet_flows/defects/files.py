"""Configurations in files: compact lines that are read back, or structures for other programs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from definet_flows.atomic import plain_file
from definet_flows.defects.build import build_structure, nodes
from definet_flows.defects.labels import charged_label, file_names, site_labels
from definet_flows.errors import InputError
from definet_flows.schemas import INSERTED, VACANCY, Configuration, Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

INDEX = "configurations.jsonl"
STRUCTURE_FORMATS = ("cif", "poscar")
_ENDINGS = {"cif": ".cif", "poscar": ".vasp"}


def check_output(path: Path) -> None:
    """Refuse an output that cannot be made, before the work.

    Raises
    ------
    InputError
        The folder around it does not exist, it is a folder with files in it, or a file of an unknown format, or a
        device or the like has its name.
    """
    if not path.parent.is_dir():
        msg = f"output {str(path)!r}: there is no folder {str(path.parent)!r}"
        raise InputError(msg)
    if path.suffix in {".jsonl", ".extxyz"}:
        plain_file(path)
    elif path.suffix:
        msg = f"output {str(path)!r}: {path.suffix} is not .jsonl or .extxyz; a name without ending is a folder"
        raise InputError(msg)
    elif os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        msg = f"output folder {str(path)!r} exists already; name a new or an empty folder"
        raise InputError(msg)


def write_configurations(
    path: str | Path, host: Host, configurations: Iterable[Configuration], structure_format: str = "cif"
) -> int:
    """Write configurations whole or not at all, in order, and return how many there were.

    Parameters
    ----------
    path
        ``.jsonl``: the host on the first line, then one configuration per line, some hundred bytes each, for
        `read_configurations`. ``.extxyz``: one frame per configuration, with its id, name, charge and multiplicity;
        vacancies are absent, inserted atoms last. A name without ending: a new folder with one structure file per
        configuration, such as ``v_O2_+1.cif``, with the id in the name where others have the same; and the lines as
        ``configurations.jsonl``, with the name of the file.
    host
        The supercell.
    configurations
        Any number; they are not held in memory.
    structure_format
        "cif" or "poscar" in a folder.

    Raises
    ------
    InputError
        If the output cannot be made; a file that was there stays as it was.
    """
    path = Path(path)
    check_output(path)
    if path.is_symlink():  # what it points to is written, the link stays
        path = path.resolve()
    if structure_format not in STRUCTURE_FORMATS:
        msg = f"structure format {structure_format!r} is not one of {', '.join(STRUCTURE_FORMATS)}"
        raise InputError(msg)
    with _whole(path) as partial:
        if path.suffix == ".extxyz":
            return _write(partial, host, configurations, _frame)
        if path.suffix == ".jsonl":
            return _write(partial, host, configurations, _line, head=host.model_dump_json())
        partial.mkdir()
        structures = _structures_beside(partial, host, configurations, structure_format)
        written = _write(partial / INDEX, host, structures, _line, head=host.model_dump_json())
        _name_files(partial, host, structure_format)
        return written


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a place to write beside `path` that takes its name at the end, and only then."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        msg = f"output {str(path)!r} cannot be written: {error.strerror}"
        raise InputError(msg) from error
    try:
        yield folder / path.name
        (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(
    path: Path,
    host: Host,
    configurations: Iterable[Configuration],
    write: Callable[[TextIO, Host, str, Configuration], None],
    head: str = "",
) -> int:
    written = 0
    host_hash = host.hash
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{head}\n" if head else "")
        for configuration in configurations:
            write(file, host, configuration.id_in(host_hash), configuration)
            written += 1
    return written


def _line(file: TextIO, host: Host, identity: str, configuration: Configuration) -> None:
    del host
    content = configuration.model_dump(mode="json", exclude_none=True)
    json.dump({"id": identity, "name": configuration.name, **content}, file, separators=(",", ":"))
    file.write("\n")


def _frame(file: TextIO, host: Host, identity: str, configuration: Configuration) -> None:
    from ase import Atoms  # noqa: PLC0415 - of this format only
    from ase.io.extxyz import write_extxyz  # noqa: PLC0415

    numbers, markers = nodes(host, configuration)
    inserted = [edit.position for edit in configuration.edits if edit.marker == INSERTED]
    frac = np.concatenate([np.array(host.frac_coords), np.array(inserted).reshape(-1, 3)])
    atoms = Atoms(numbers, cell=host.lattice, scaled_positions=frac, pbc=True)[markers != VACANCY]
    atoms.info = {"id": identity, "name": configuration.name, "charge": configuration.charge}
    atoms.info["multiplicity"] = configuration.multiplicity
    write_extxyz(file, [atoms])


def _structures_beside(
    folder: Path, host: Host, configurations: Iterable[Configuration], structure_format: str
) -> Iterator[Configuration]:
    from pymatgen.io.cif import CifWriter  # noqa: PLC0415 - half a second to import
    from pymatgen.io.vasp import Poscar  # noqa: PLC0415

    host_hash = host.hash
    for configuration in configurations:
        structure = build_structure(host, configuration)
        path = folder / f"{configuration.id_in(host_hash)}{_ENDINGS[structure_format]}"
        if structure_format == "cif":
            CifWriter(structure).write_file(path)
        else:
            grouped = structure.get_sorted_structure(key=lambda site: structure.symbol_set.index(site.specie.symbol))
            Poscar(grouped, comment=configuration.name).write_file(path)
        yield configuration


def _name_files(folder: Path, host: Host, structure_format: str) -> None:
    """Give the structure files, named by id so far, names to be read, and put these into the lines of the index.

    Only now is it known which configurations have the same name.
    """
    head, *lines = (folder / INDEX).read_text(encoding="utf-8").splitlines()
    contents = [json.loads(line) for line in lines]
    labels = site_labels(host)
    named = [charged_label(Configuration.model_validate(_without_notes(content)), labels) for content in contents]
    with (folder / INDEX).open("w", encoding="utf-8") as file:
        file.write(f"{head}\n")
        for content, name in zip(contents, file_names(named, [content["id"] for content in contents]), strict=True):
            ending = _ENDINGS[structure_format]
            if (source := folder / f"{content['id']}{ending}").exists():  # a configuration may be given twice
                source.rename(folder / f"{name}{ending}")
            json.dump({"id": content["id"], "file": f"{name}{ending}", **content}, file, separators=(",", ":"))
            file.write("\n")


def _without_notes(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a line says of a configuration itself."""
    return {key: value for key, value in content.items() if key not in ("id", "name", "file")}


def read_configurations(path: str | Path) -> tuple[Host, Iterator[Configuration]]:
    """Return the host and the configurations of a ``.jsonl`` file, the latter read as they are asked for.

    Parameters
    ----------
    path
        A file that `definet enumerate -o FILE.jsonl` has written.

    Raises
    ------
    InputError
        If the file is not there, or a line is not a configuration of the host; the message names the line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            host = Host.model_validate_json(file.readline())
    except OSError as error:
        msg = f"configurations {str(path)!r} cannot be read: {error.strerror}"
        raise InputError(msg) from error
    except (ValidationError, UnicodeDecodeError) as error:
        msg = (
            f"configurations {str(path)!r}: line 1 is not a host; write the file with `definet enumerate -o FILE.jsonl`"
        )
        raise InputError(msg) from error
    return host, _read_lines(path, host)


def _read_lines(path: Path, host: Host) -> Iterator[Configuration]:
    host_hash = host.hash
    with path.open(encoding="utf-8") as file:
        next(file)
        for number, line in enumerate(file, start=2):
            try:
                content = json.loads(line)
                identity = content["id"]
                configuration = Configuration.model_validate(_without_notes(content))
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                msg = f"configurations {str(path)!r}: line {number} is not a configuration"
                raise InputError(msg) from error
            if configuration.id_in(host_hash) != identity:
                msg = f"configurations {str(path)!r}: line {number} is not of the host on line 1 (its id differs)"
                raise InputError(msg)
            yield configuration
