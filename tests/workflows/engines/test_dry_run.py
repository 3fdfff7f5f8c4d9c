"""A dry run of VASP: its own settings hash, no POTCARs, a stand-in that runs nothing else, and says what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flow_helpers import CU

from definet_flows.defects import Choices
from definet_flows.errors import InputError
from definet_flows.hosts import make_host, to_structure
from definet_flows.report.summary import judges
from definet_flows.workflows.campaign.preflight import preflight
from definet_flows.workflows.engines.base import require_executables, resolve_engine
from definet_flows.workflows.engines.vasp.dry_run import DRY_RUN

pytest_plugins = ["flow_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")

PROGRAM = Path(__file__).parents[3] / "examples" / "dry_run" / "vasp_std"
VPMDK = """
import sys
from pathlib import Path

def main(arguments):
    assert arguments == ["--dir", "."]
    assert "MLP=SEVENNET" in Path("BCAR").read_text()
    Path("OUTCAR").write_text(" by vpmdk\\n")
    Path("vasprun.xml").write_text(
        "<modeling><generator><i name='version' type='string'>0</i></generator>"
        "<incar><i name='NSW' type='int'>500</i></incar>"
        "<parameters><i name='NELM' type='int'>60</i></parameters></modeling>"
    )
"""


def run(folder, incar):
    (folder / "INCAR").write_text(incar)
    (folder / "vpmdk_entry.py").write_text(VPMDK)
    start = (
        f"import sys, runpy; sys.path.insert(0, {str(folder)!r}); runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", start], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def without_potcars(monkeypatch):
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {})
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})


def test_its_records_are_never_those_of_vasp():
    dry, vasp = resolve_engine("vasp-dry-run"), resolve_engine("vasp")
    assert dry.settings_hash != vasp.settings_hash
    assert dry.name == "vasp-dry-run"
    assert "not a saving of DFT" in judges([dry.name])


@pytest.mark.usefixtures("without_potcars")
def test_its_inputs_are_those_of_vasp_but_for_the_title():
    structure = to_structure(make_host("BN", (2, 2, 1)))
    dry, vasp = (
        resolve_engine(name).maker.input_set_generator.get_input_set(structure, potcar_spec=True)
        for name in ("vasp-dry-run", "vasp")
    )
    assert dict(dry.incar) == {**vasp.incar, "SYSTEM": DRY_RUN}
    assert str(dry.poscar) == str(vasp.poscar)


@pytest.mark.usefixtures("without_potcars")
def test_check_and_run_ask_for_no_potcars_and_name_the_dry_run(maker, monkeypatch):
    monkeypatch.setenv("PATH", str(PROGRAM.parent), prepend=":")
    require_executables(resolve_engine("vasp-dry-run"))
    with pytest.raises(InputError, match="no POTCARs"):
        require_executables(resolve_engine("vasp"))
    maker.engine = "vasp-dry-run"
    lines = preflight(maker, CU)
    assert not [line for line in lines if line.level == "fail"]
    assert DRY_RUN in next(line.text for line in lines if line.subject == "POTCAR")


def test_charged_cells_are_refused_before_anything_runs(maker):
    maker.engine, maker.defects = "vasp-dry-run", Choices(defects=("v_Cu",), charges=(0, 1))
    with pytest.raises(InputError, match="the engine vasp-dry-run knows no charges"):
        maker.campaign(CU)
    assert resolve_engine("vasp").knows_charge


def test_the_stand_in_runs_a_dry_run_and_says_in_every_output_that_no_dft_was_done(tmp_path):
    done = run(tmp_path, f"SYSTEM = {DRY_RUN}\nEDIFFG = -0.01\nNSW = 500\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(DRY_RUN)
    outcar, xml = (tmp_path / "OUTCAR").read_text(), (tmp_path / "vasprun.xml").read_text()
    assert DRY_RUN in outcar
    for part in ("running on    1 total cores", "NBANDS=", "NPLWV =", "NELECT =", "by vpmdk"):
        assert part in outcar
    assert DRY_RUN in xml
    assert xml.count('<i name="EDIFFG">-0.01</i>') == 2
    assert xml.count("NSW") == xml.count("NELM") == 1


@pytest.mark.parametrize("title", ["", "SYSTEM = MoS2\n"])
def test_the_stand_in_refuses_the_inputs_of_a_true_vasp(tmp_path, title):
    done = run(tmp_path, f"{title}EDIFFG = -0.01\n")
    assert done.returncode == 1
    assert "choose the engine vasp-dry-run" in done.stderr
    assert not (tmp_path / "OUTCAR").exists()
