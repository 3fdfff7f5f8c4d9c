"""vasprun.xml without characters that no XML parser takes and without its bulk, so that pymatgen reads the rest.

VASP writes the SYSTEM line as it is, and a broken disk or network leaves control characters: either would end a parser
there, and every step after it would be lost. Eigenvalues and densities of states, most of the file, are left out.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from xml.sax.saxutils import escape, unescape

from definet_flows.ledger.vasp.output.packed import Lines
from definet_flows.ledger.vasp.run import number

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_TOUCHED = re.compile(rf"[^\s<>{_CONTROLS}]+[{_CONTROLS}]+[^\s<>]*|[{_CONTROLS}]+[^\s<>{_CONTROLS}]+[^\s<>]*")
_NUMERIC = re.compile(r'<v>|<i name="e_|<i name="volume')
_TEXT = re.compile(r'(<i type="string" name="SYSTEM">)(.*)(</i>)')
_BULK = re.compile(r"<(eigenvalues|dos|projected)(?=[\s>])")
_BEGAN = re.compile(r'<i name="(?:date|time)" type="string">\s*([^<]*?)\s*</i>')
_SPECIES = re.compile(r"<rc><c>\s*(\d+)</c><c>\w+ *</c><c>[^<]*</c><c>\s*([\d.]+)</c><c>\s*(\S[^<]*)</c>")


@dataclass
class Cleaned:
    """A cleaned vasprun.xml, and the facts in its lines.

    Attributes
    ----------
    path
        The cleaned file; it is there as long as the context lasts.
    electronic_steps
        Steps of the electronic loop, those of an unfinished ionic step included.
    calculations
        Finished ionic steps.
    ended
        Whether the file is whole.
    began
        Date and time at which VASP began; empty where they are not there.
    species
        Atoms, valence electrons and POTCAR of each species.
    ml_steps
        Steps by a machine-learned force field, which stand outside of `<calculation>`.
    ends_by_ml
        Whether the last step was such.
    damage
        Damage that ended the file too early, apart from a cut.
    """

    path: Path
    electronic_steps: int = 0
    calculations: int = 0
    ended: bool = False
    began: str = ""
    species: list[tuple[int, float, str]] = field(default_factory=list)
    ml_steps: int = 0
    ends_by_ml: bool = False
    damage: str = ""
    _inside: bool = False

    def count(self, line: str) -> None:
        """Note the facts in a line."""
        if "<calculation>" in line:
            self._inside, self.ends_by_ml = True, False
        elif "</calculation>" in line:
            self._inside = False
            self.calculations += 1
        elif not self._inside and line.strip() == "<structure>":
            self.ml_steps += 1
            self.ends_by_ml = True
        self.electronic_steps += "</scstep>" in line
        self.ended = self.ended or "</modeling>" in line
        if found := _BEGAN.search(line):
            self.began = f"{self.began} {found[1]}".strip()
        elif found := _SPECIES.search(line):
            self.species.append((int(found[1]), number(found[2]), found[3]))


@contextmanager
def cleaned(path: Path) -> Iterator[Cleaned]:
    """Write a vasprun.xml, compressed or not, as a stream to a plain file that a parser takes; yield it."""
    with tempfile.TemporaryDirectory() as folder:
        found = Cleaned(Path(folder, "vasprun.xml"))
        source = Lines(path)
        with found.path.open("w", encoding="latin-1") as file:
            _write(iter(source), file, found)
        found.damage = source.damage
        found.ended = found.ended and not found.damage
        yield found


def _write(lines: Iterator[str], file: TextIO, found: Cleaned) -> None:
    bulk = ""
    for line in lines:
        if bulk:
            bulk = "" if f"</{bulk}>" in line else bulk
            continue
        if (start := _BULK.search(line)) and f"</{start[1]}>" not in line:
            bulk = start[1]
            continue
        clean = _clean(line)
        found.count(clean)
        file.write(clean)


def _clean(line: str) -> str:
    """Return a line without control characters; a damaged number becomes ******."""
    if _CONTROL.search(line):
        line = _TOUCHED.sub("******", line) if _NUMERIC.search(line) else line
        line = _CONTROL.sub("", line)
    return _TEXT.sub(lambda match: f"{match[1]}{escape(unescape(match[2]))}{match[3]}", line)
