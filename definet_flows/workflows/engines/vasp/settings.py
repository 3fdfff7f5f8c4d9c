"""INCAR tags and k-points of the user's own: typed, and refused where they would break what a campaign measures."""

from __future__ import annotations

import re
from copy import deepcopy
from math import isfinite
from typing import TYPE_CHECKING, Any

from pymatgen.io.vasp import Kpoints
from pymatgen.io.vasp.inputs import Incar

from definet_flows.errors import InputError
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from atomate2.vasp.sets.base import VaspInputGenerator
    from jobflow import Maker

_REFUSED = {
    "MAGMOM": "the moments follow from the electrons of each configuration",
    "NUPDOWN": "the moments follow from the electrons of each configuration",
    "NELECT": "the electrons follow from the charge of each configuration, --charge",
    "KSPACING": "the k-points are those of --kpoints",
    "KGAMMA": "the k-points are those of --kpoints",
    "SYSTEM": "the title tells a dry run from VASP",
    **dict.fromkeys(
        ("LDAU", "LDAUU", "LDAUJ", "LDAUL"),
        "Hubbard parameters differ by element, give them from Python to VaspDefectSetGenerator",
    ),
    **dict.fromkeys(
        ("ROPT", "RWIGS", "VDW_C6", "VDW_R0", "QUAD_EFG", "NGYROMAG", "POMASS", "ZVAL"),
        "its values follow the elements of a cell, which differ between configurations",
    ),
    **dict.fromkeys(("FERWE", "FERDO"), "the occupations follow from the electrons of each configuration"),
    "LNONCOLLINEAR": "the starting moments are collinear",
    "LSORBIT": "the starting moments are collinear",
    "ML_LMLFF": "steps of a machine-learned force field are no ionic steps",
    "IMAGES": "a relaxation has a single image",
}
"""Tags that follow from each configuration, or under which steps cannot be counted, with the reason."""

_LIMITED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "NSW": (lambda steps: steps >= 1, "without ionic steps nothing relaxes: 1 or more"),
    "IBRION": (lambda kind: kind in (1, 2, 3), "only 1, 2 and 3 relax the atoms"),
    "ISIF": (lambda kind: kind in (0, 1, 2), "the cell stays as it is: 0, 1 or 2"),
    "EDIFFG": (lambda limit: limit < 0, "the end of a relaxation is judged by forces: below 0, in eV/Å"),
    "ISYM": (
        lambda kind: kind in (-1, 0),
        "symmetry would hold the unrelaxed start and not the predicted one: 0 or -1",
    ),
}
"""Tags of which only some values keep the meaning of a relaxation: a test, and the reason."""

_WORD = re.compile(r"[\w.+-]+", re.ASCII)
_DIGITS = 5  # of the count in 3*0.5
_MOST = 64  # k-points along an axis; more is a typing error


def read_incar(items: Sequence[str]) -> dict[str, Any]:
    """Return the tags of options such as ENCUT=520, each of the type that VASP knows it by.

    Raises
    ------
    InputError
        If an item has no such form, or names an unknown tag, a tag twice, a value of another type, or a tag or value
        that a campaign does not take, with the reason.
    """
    tags: dict[str, Any] = {}
    for item in items:
        name, equals, text = (part.strip() for part in item.partition("="))
        tag = name.upper()
        if not equals or not tag or not text:
            msg = f"--incar {item}: write a tag and its value, such as ENCUT=520"
            raise InputError(msg)
        if tag in tags:
            msg = f"--incar {item}: {tag} is given twice"
            raise InputError(msg)
        if tag in _REFUSED:
            msg = f"--incar {item}: {_REFUSED[tag]}; drop it"
            raise InputError(msg)
        tags[tag] = _typed(item, tag, text)
        allowed, why = _LIMITED.get(tag, (lambda _: True, ""))
        if not allowed(tags[tag]):
            msg = f"--incar {item}: {why}"
            raise InputError(msg)
    return tags


def _typed(item: str, tag: str, text: str) -> Any:  # noqa: ANN401 - any type of a tag
    known = Incar.INCAR_PARAMS.get(tag)  # type: ignore[call-overload]  # pymatgen annotates the inner dicts
    if known is None:
        msg = f"--incar {item}: VASP has no tag {tag} that pymatgen knows; is it written right?"
        raise InputError(msg)
    kinds = [kind.strip() for kind in str(known.get("type")).split("|")]
    for kind in kinds:
        try:
            return _READERS[kind](tag, text)
        except ValueError:
            continue
    msg = f"--incar {item}: {tag} takes {' or '.join(_TYPES[kind] for kind in kinds)}"
    raise InputError(msg)


def _logical(_: str, text: str) -> bool:
    word = text.strip(".").lower()
    if word not in ("t", "f", "true", "false"):
        raise ValueError(text)
    return word.startswith("t")


def _number(_: str, text: str) -> float:
    """Return a number, a whole one as such: settings from Python, ENCUT 520, have the same hash."""
    value = float(text)
    if not isfinite(value):
        raise ValueError(text)
    return int(value) if value.is_integer() else value


def _list(_: str, text: str) -> list[float]:
    """Return numbers with blanks or commas between them; 3*0.5 stands for three."""
    found: list[float] = []
    for word in text.replace(",", " ").split():
        count, times, value = word.rpartition("*")
        if times and (not count.isdecimal() or len(count) > _DIGITS):
            raise ValueError(text)
        found += [_number("", value)] * (int(count) if times else 1)
    return found


def _word(tag: str, text: str) -> Any:  # noqa: ANN401 - pymatgen's own form of the word
    if not _WORD.fullmatch(text):  # a semicolon or a new line would begin another tag
        raise ValueError(text)
    return Incar.proc_val(tag, text)


_READERS: dict[str, Callable[[str, str], Any]] = {
    "bool": _logical,
    "int": lambda _, text: int(text),
    "float": _number,
    "list": _list,
    "str": _word,
}
_TYPES = {
    "bool": ".TRUE. or .FALSE.",
    "int": "a whole number",
    "float": "a number",
    "list": "numbers with blanks between them",
    "str": "a single word",
}


def read_kpoints(mesh: tuple[str, str, str]) -> tuple[int, int, int]:
    """Return the divisions of a mesh around Γ.

    Raises
    ------
    InputError
        If one is no whole number from 1 to 64.
    """
    for text in mesh:
        if not text.isdecimal() or not 1 <= int(text[:4]) <= _MOST:
            msg = f"--kpoints {' '.join(mesh)}: {text[:20]} is no whole number from 1 to {_MOST}"
            raise InputError(msg)
    a, b, c = map(int, mesh)
    return a, b, c


def with_settings(
    maker: Maker, name: str, incar: Mapping[str, Any], kpoints: tuple[int, int, int] | None
) -> VaspDefectRelaxMaker:
    """Return a Maker with these tags and k-points; what says the same as its own input set is left out.

    So the settings hash of `ENCUT=500`, or of Γ, is that of the engine without options.

    Parameters
    ----------
    maker
        Of the engine.
    name
        The engine's name, for the error.
    incar
        Tags, as `read_incar` returns them.
    kpoints
        Divisions of a mesh around Γ; None: Γ alone.

    Raises
    ------
    InputError
        If the engine has no INCAR.
    """
    if not isinstance(maker, VaspDefectRelaxMaker):
        msg = f"--incar, --kpoints: the engine {name} has neither; take --engine vasp, or drop them"
        raise InputError(msg)
    made = deepcopy(maker)
    generator = made.input_set_generator
    own = Incar(generator.config_dict["INCAR"])
    changed = {tag: value for tag, value in incar.items() if tag not in own or own[tag] != value}
    generator.user_incar_settings = {**generator.user_incar_settings, **changed}
    if kpoints is not None and kpoints != (1, 1, 1):
        # pymatgen takes either, annotates a dict
        generator.user_kpoints_settings = Kpoints.gamma_automatic(kpoints)  # type: ignore[assignment]
    return made


def mesh_of(generator: VaspInputGenerator) -> tuple[int, int, int] | None:
    """Return the divisions of the mesh around Γ; (1, 1, 1) is Γ alone. None: the Maker's own settings make another."""
    given = generator.user_kpoints_settings
    if not isinstance(given, Kpoints):
        return None if given else (1, 1, 1)
    if given.style is not Kpoints.supported_modes.Gamma or any(given.kpts_shift):
        return None
    a, b, c = given.kpts[0]
    return int(a), int(b), int(c)
