"""Reading a host: a Structure, a file, or one of the shipped monolayers."""

from __future__ import annotations

import re
import warnings
from importlib.resources import files
from pathlib import Path

from pymatgen.core import Structure

from definet_flows.errors import InputError
from definet_flows.hosts.sane import check_cell, check_file

_CLOSEST = 0.5  # Å; two atoms nearer than this are one atom written twice


def shipped_hosts() -> tuple[str, ...]:
    """Names of the hosts that come with the package."""
    folder = files("definet_flows") / "structures"
    return tuple(sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".cif")))


def load_structure(host: Structure | str | Path) -> Structure:
    """Return an ordered structure; `properties` keeps "source" and, where known, "functional".

    Parameters
    ----------
    host
        A Structure, a path to any file pymatgen reads, or the name of a shipped host such as "MoS2".

    Raises
    ------
    InputError
        If the file is absent or unreadable, or the structure is disordered or has overlapping atoms.
    """
    if isinstance(host, Structure):
        structure = host.copy()
        structure.properties.setdefault("source", "Structure")
    elif str(host) in shipped_hosts():
        structure = _shipped(str(host))
    else:
        structure = _from_file(Path(host))
    _check(structure, structure.properties["source"])
    structure.remove_oxidation_states()
    return structure


def _shipped(name: str) -> Structure:
    text = (files("definet_flows") / "structures" / f"{name}.cif").read_text(encoding="utf-8")
    with warnings.catch_warnings():
        _accept_rounded_thirds()
        structure = Structure.from_str(text, fmt="cif")
    functional = re.search(r"^# functional: (\S+)", text, flags=re.MULTILINE)
    structure.properties = {
        "source": f"definet_flows/structures/{name}.cif",
        "functional": functional.group(1) if functional else "",
    }
    return structure


def _from_file(path: Path) -> Structure:
    if not path.is_file():
        names = ", ".join(shipped_hosts())
        msg = f"host {str(path)!r}: no such file, nor one of the shipped hosts ({names})"
        raise InputError(msg)
    try:
        with warnings.catch_warnings():
            _accept_rounded_thirds()
            check_file(path)
            structure = Structure.from_file(path)
    except Exception as error:  # pymatgen's parsers raise whatever they stumble over
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        msg = (
            f"host {str(path)!r} cannot be read as a structure ({reason}); give a CIF, POSCAR or other pymatgen format"
        )
        raise InputError(msg) from error
    structure.properties["source"] = path.name
    return structure


def _accept_rounded_thirds() -> None:
    """0.33333 read as 1/3 is what `symmetrize` would do; it is no news to the user."""
    warnings.filterwarnings("ignore", message=".*fractional coordinates rounded to ideal values.*")


def _check(structure: Structure, source: str) -> None:
    if len(structure) == 0:
        msg = f"host {source!r} has no atoms"
        raise InputError(msg)
    check_cell(structure.lattice.matrix, structure.frac_coords, f"host {source!r}")
    if not structure.is_ordered:
        site = next(site for site in structure if not site.is_ordered)
        msg = f"host {source!r} is disordered at site {site.species_string}; order it first (pymatgen: enumlib, SQS)"
        raise InputError(msg)
    if len(structure.get_neighbor_list(_CLOSEST)[3]):
        msg = f"host {source!r} has two atoms closer than {_CLOSEST} Å; remove the duplicate"
        raise InputError(msg)
