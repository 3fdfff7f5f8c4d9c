"""The input of an execution of VASP apart from the positions: equal for both starts of a pair."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monty.io import zopen
from pymatgen.io.vasp import Incar, Poscar

from definet_flows.schemas import content_hash

if TYPE_CHECKING:
    from pathlib import Path

_END = "End of Dataset"
_TITEL = re.compile(r"TITEL\s*=\s*(.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class VaspInputs:
    """INCAR, KPOINTS, POTCAR, species and cell of a run.

    Attributes
    ----------
    hash
        Hash of all of it; None if a file is missing.
    potcars
        TITEL of each POTCAR and the sha256 of its text.
    """

    hash: str | None = None
    potcars: dict[str, str] = field(default_factory=dict)


def read_inputs(directory: Path) -> VaspInputs:
    """Return the input of a run at its start; custodian keeps it as `INCAR.orig` and so on."""
    texts = {name: _original(directory, name) for name in ("INCAR", "KPOINTS", "POTCAR", "POSCAR")}
    potcars = potcar_hashes(texts["POTCAR"] or "")
    if None in texts.values():
        return VaspInputs(None, potcars)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tags that pymatgen does not know are hashed as text
            tags = Incar.from_str(texts["INCAR"] or "")
            structure = Poscar.from_str(texts["POSCAR"] or "").structure
    except Exception:  # noqa: BLE001  # a file cut off anywhere fails in many ways
        return VaspInputs(None, potcars)
    incar = {name: str(value) for name, value in tags.items() if name != "SYSTEM"}
    kpoints = [line.split() for line in (texts["KPOINTS"] or "").splitlines()[1:]]
    species = [site.specie.symbol for site in structure]
    cell = [round(x, 5) + 0.0 for x in structure.lattice.matrix.ravel().tolist()]
    return VaspInputs(content_hash("vasp inputs", incar, kpoints, potcars, species, cell), potcars)


def potcar_hashes(text: str) -> dict[str, str]:
    """Return TITEL and sha256 of each potential in the text of a POTCAR."""
    found = {}
    for potential in text.split(_END):
        if title := _TITEL.search(potential):
            found[title[1]] = hashlib.sha256((potential.strip() + _END).encode()).hexdigest()
    return found


def _original(directory: Path, name: str) -> str | None:
    for path in (directory / f"{stem}{end}" for stem in (f"{name}.orig", name) for end in ("", ".gz")):
        if path.is_file():
            with zopen(path, mode="rt", encoding="latin-1") as file:
                return str(file.read())
    return None
