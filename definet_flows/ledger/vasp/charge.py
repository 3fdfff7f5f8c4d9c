"""The charge of a calculation: by its electrons, else by the names of its folders, else zero."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from pymatgen.core.periodic_table import Element

from definet_flows.errors import InputError
from definet_flows.ledger.vasp.output.packed import Lines, file_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from definet_flows.ledger.vasp.executions import Execution

_WHOLE = 0.01
"""Electrons; a charge that is farther from a whole number is no charge state."""

_OUTPUT_NAME = re.compile(r"[._-]?(?:vasprun\.xml|OUTCAR).*")
_PRIOR_INFO = "prior_info.yaml"  # pydefect's; its line "charge: 1"
_POTCAR_VALENCE = re.compile(r"ZVAL\s*=\s*([\d.]+)")


@dataclass(frozen=True)
class Charge:
    """A net charge, elementary charges, and notes on its source."""

    value: int
    notes: tuple[str, ...] = ()


def charge_of(execution: Execution, place: Path, root: Path) -> Charge:
    """Return the charge of a run: by NELECT and the POTCARs' valences, else by its folders' names, else 0.

    Parameters
    ----------
    execution
        The first of the run.
    place
        Its folder, or its file.
    root
        The tree that it was found in; folders above do not count.

    Raises
    ------
    InputError
        If the electrons are no charge state, such as +0.5; or if an INCAR sets NELECT and neither valences nor names
        give the charge.
    """
    named, electrons = charge_from_path(place, root), _electrons(execution)
    known, notes = _by_electrons(execution, electrons, place)
    if known is None and named is None and electrons is not None:
        msg = f"{place} sets NELECT {electrons:g}, and nothing gives the valence electrons: put its POTCAR beside it"
        raise InputError(msg)
    if known is None:
        source = "taken to be neutral" if named is None else "by its name"
        return Charge(named or 0, (f"the charge is not in the output: {source}",))
    value = round(known)
    if abs(known - value) > _WHOLE:
        msg = f"{place} has a charge of {known:+g} by NELECT: a charge state is a whole number"
        raise InputError(msg)
    if named is not None and named != value:
        notes = (*notes, f"the name says charge {named:+d}, NELECT {value:+d}: NELECT counts")
    return Charge(value, notes)


def _by_electrons(execution: Execution, nelect: float | None, place: Path) -> tuple[float | None, tuple[str, ...]]:
    """Return valence electrons less NELECT, of the output, else of INCAR (`nelect`) and POTCAR; and notes."""
    run = execution.run
    valence = run.valence if run.valence is not None else _valence(execution, place)
    by_incar = None if nelect is None or valence is None else valence - nelect
    known = run.charge if run.charge is not None else by_incar
    if known is None or not isfinite(known):
        return None, ()
    if by_incar is None or abs(by_incar - known) <= _WHOLE:
        return known, ()
    return known, (f"the INCAR sets NELECT {nelect:g}, the output another: the output counts",)


def _electrons(execution: Execution) -> float | None:
    try:
        return float(execution.tags["NELECT"])
    except (KeyError, TypeError, ValueError):
        return None


def _valence(execution: Execution, place: Path) -> float | None:
    """Return the valence electrons by the POTCAR beside the output and the atoms of the start."""
    path = file_in(place, "POTCAR") if place.is_dir() else None
    if path is None or execution.start is None:
        return None
    valences = [float(found[1]) for line in Lines(path) if (found := _POTCAR_VALENCE.search(line))]
    groups: list[tuple[str, int]] = []
    for site in execution.start:
        symbol = site.specie.symbol
        count = groups.pop()[1] if groups and groups[-1][0] == symbol else 0
        groups.append((symbol, count + 1))
    known = len(valences) == len(groups)
    return sum(n * valence for (_, n), valence in zip(groups, valences, strict=True)) if known else None


# ------------------------------------------------------------------ names


_EXPLICIT = re.compile(r"(?:^|[\W_])(?:q|charge)[ _=:]*(?P<number>[+-]?\d{1,2}|\d{1,2}[+-])(?!\d|\.\d)", re.IGNORECASE)
_SIGNED = re.compile(r"[+-]\d{1,2}|\d{1,2}[+-]")
_PLAIN = re.compile(r"\d{1,2}")
_HEADS = frozenset({"v", "V", "va", "Va", "vac", "Vac", "as", "sub", "int", "Int", "inter", "i"})
_SITE = re.compile(
    r"(?P<element>[A-Z][a-z]?)\d*(?:\.\d+)?|i\d*|on|s\d+|mult\d+"  # elements, interstitials, labels of sites
    r"|C\d+[vhi]?|C[is]|D\d+[dh]?|S\d|[TO][dh]?"  # point groups
)
_DISTORTION = re.compile("distort|rattle|dimer", re.IGNORECASE)


def charge_in_name(name: str) -> int | None:
    """Return the charge in the name of a folder or file; None if there is none.

    Names that say so (`q=-1`, `v_S_q-1`, `charge_2`); or names of defects that end in it, before what may follow, as
    doped, ShakeNBreak, PyCDT and pydefect write them: `v_Cd_-2_vasp_gam`, `Te_Cd_C2v_Te2.83_+2`, `vac_1_Cd_0`,
    `Va_O1_2`. A number without a sign counts only right after the sites: `S_run_3` is no charge.
    """
    if found := _EXPLICIT.search(name):
        return _signed(found["number"])
    head, *words = name.split("_")
    if not (head in _HEADS or _is_site(head)):
        return None
    at_sites, seen = True, False
    for k, word in enumerate(words):
        if _DISTORTION.search(word):
            return None
        if _SIGNED.fullmatch(word):
            return _signed(word) if seen else None
        if _PLAIN.fullmatch(word):
            following = "".join(words[k + 1 : k + 2])  # a number before sites or a charge is an index
            if at_sites and seen and not (_is_site(following) or re.fullmatch(r"[+-]?\d+[+-]?", following)):
                return int(word)
        elif _is_site(word):
            seen = True
        else:
            at_sites = False
    return None


def _is_site(word: str) -> bool:
    """Return whether a word of a defect's name means sites; a plus joins defects, as in `v_S+W_Mo`."""
    for part in word.split("+"):
        match = _SITE.fullmatch(part)
        element = match["element"] if match else None
        if part not in _HEADS and (match is None or (element and not Element.is_valid_symbol(element))):
            return False
    return True


def _signed(word: str) -> int:
    return int(word[-1] + word[:-1]) if word[-1] in "+-" else int(word)


def charge_from_path(path: Path, root: Path) -> int | None:
    """Return the charge in the names of a file and its folders, the innermost first, up to `root`.

    In a folder with pydefect's prior_info.yaml that file counts.
    """
    for place in _places(path, root):
        output = _OUTPUT_NAME.search(place.name)
        prior = place / _PRIOR_INFO
        written = re.search(r"^charge:\s*([+-]?\d+)", "".join(Lines(prior)), re.MULTILINE) if prior.is_file() else None
        charge = int(written[1]) if written else charge_in_name(place.name[: output.start()] if output else place.name)
        if charge is not None:
            return charge
    return None


def _places(path: Path, root: Path) -> Iterator[Path]:
    """Yield a path and its folders, from the innermost to the root."""
    for place in (path.absolute(), *path.absolute().parents):
        yield place
        if place.resolve() == root.resolve():
            return
