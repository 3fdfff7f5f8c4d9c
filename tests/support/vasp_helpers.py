"""The stand-in for VASP as a program, with synthetic POTCARs, its log, and failures on demand."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

STANDIN = Path(__file__).parent / "vasp_standin"
SHARED = Path(__file__).parents[3] / "shared" / "vasp"
real_output = pytest.mark.skipif(not SHARED.is_dir(), reason="no real VASP output in ../shared/vasp")
WARNINGS = [
    pytest.mark.filterwarnings("ignore:POTCAR data with symbol"),  # made for tests
    pytest.mark.filterwarnings("ignore::pymatgen.io.vasp.outputs.UnconvergedVASPWarning"),  # what handlers look for
    pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),
]
"""For tests that run the stand-in: a warning raised as an error inside custodian would be a failure of its own."""

ZVAL = {"Cu": 1.0, "Ni": 2.0}

POTCAR = """  PAW_PBE {symbol} 01Jan2000
   {zval}
 parameters from PSCTR are:
   VRHFIN ={element}: made for tests
   LEXCH  = PE
   EATOM  =   100.0000 eV,    7.0000 Ry

   TITEL  = PAW_PBE {symbol} 01Jan2000
   LULTRA =        F    use ultrasoft PP ?
   POMASS =   60.000; ZVAL   =   {zval}    mass and valenz
   RCORE  =    2.000    outmost cutoff radius
   ENMAX  =  300.000; ENMIN  =  200.000 eV
   LPAW   =        T    paw PP
END of PSCTR-controll parameters
 local part
   0.0
End of Dataset
"""


class Standin:
    """The stand-in as a test sees it."""

    def __init__(self, folder):
        self.bin, self.potcars, self.log, self.plan = (
            folder / name for name in ("bin", "potcars", "vasp.log", "failures.json")
        )
        self.bin.mkdir()
        for name in ("vasp_std", "vasp_gam"):
            program = self.bin / name
            start = f"import sys; sys.path.insert(0, {str(STANDIN)!r}); import run; run.main()"
            program.write_text(f"#!{sys.executable} -I\n{start}\n")
            program.chmod(0o755)
        self.fails({})
        for symbol, zval in ZVAL.items():
            path = self.potcars / "POT_GGA_PAW_PBE_54" / symbol / "POTCAR"
            path.parent.mkdir(parents=True)
            path.write_text(POTCAR.format(symbol=symbol, element=symbol.split("_")[0], zval=zval))

    def fails(self, plan):
        """Let the directories, by number in order of appearance, fail in these modes."""
        self.plan.write_text(json.dumps({str(number): modes for number, modes in plan.items()}))

    def entries(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def directories(self):
        return list(dict.fromkeys(entry["directory"] for entry in self.entries()))

    def counts(self, directory, event):
        """Return how often something happened in each execution in a directory, those that came to nothing left out."""
        mine = [entry for entry in self.entries() if entry["directory"] == str(directory)]
        found = Counter(entry["execution"] for entry in mine if entry["event"] == event)
        alive = sorted({entry["execution"] for entry in mine if entry["event"] != "start"})
        return [found[execution] for execution in alive]
