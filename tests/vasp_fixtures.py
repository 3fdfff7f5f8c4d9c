"""The stand-in for VASP on PATH, with synthetic POTCARs, its log, and failures on demand."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from definet_flows.workflows.vasp_inputs import valence_electrons

STANDIN = Path(__file__).parent / "vasp_standin" / "run.py"
ZVAL = {"Cu": 11.0, "Ni": 10.0}

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
            start = f"import runpy,sys; sys.path.insert(0, {str(STANDIN.parent)!r})"
            program.write_text(f"#!{sys.executable} -I\n{start}\nrunpy.run_path({str(STANDIN)!r}, run_name='__main__')\n")
            program.chmod(0o755)
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


@pytest.fixture
def standin(tmp_path, monkeypatch):
    made = Standin(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin), prepend=":")
    monkeypatch.setenv("VASP_LOG", str(made.log))
    monkeypatch.setenv("VASP_FAILURES", str(made.plan))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {"PMG_VASP_PSP_DIR": str(made.potcars)})
    monkeypatch.setattr("pymatgen.core.SETTINGS", {"PMG_VASP_PSP_DIR": str(made.potcars)})
    # custodian looks every 10 s whether VASP has ended
    monkeypatch.setattr("custodian.custodian.time", SimpleNamespace(sleep=lambda _: time.sleep(0.02)))
    valence_electrons.cache_clear()
    yield made
    valence_electrons.cache_clear()
