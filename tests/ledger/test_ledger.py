"""The ledger against real VASP output, cut-off files, and the documents of atomate2."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from emmet.core.tasks import TaskDoc
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monty.json import jsanitize
from pymatgen.core import Lattice, Structure
from vasp_helpers import SHARED, real_output

from definet_flows.errors import InputError
from definet_flows.ledger import (
    largest_force,
    point_group,
    read_attempts,
    read_document,
    read_runs,
    read_vasp_run,
    repeats_last_frame,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),
]

WHOLE = [  # path, ionic steps, electronic steps, energy (eV)
    ("CdTe_Cd_i/C3v_0.vasprun.xml.gz", 36, None, -209.693981),
    ("GaN_Mg_Ga/q=0", 5, 40, -206.957934),
    ("GaN_Mg_Ga/q=1", 5, 45, -211.383950),
    ("GaN_v_N/q=0", 8, None, -200.601114),
    ("GaN_v_N/q=-1", 9, None, -193.407666),
    ("GaN_v_N/bulk", 2, None, None),
    ("GaN_Mg_Ga/bulk", None, None, None),
    ("ZnS_outcar/sub_1_Al_on_Zn_0.OUTCAR.gz", 7, 24, -269.216202),
    ("ZnS_outcar/vac_1_Zn_-1.OUTCAR.gz", 14, 59, -260.065464),
    ("ZnS_outcar/vac_2_S_1.OUTCAR.gz", 10, 31, -261.394646),
    ("oszicar/OSZICAR.plain", 60, 310, -526.639280),
    ("oszicar/OSZICAR.nonconv", 4, 40, -3.507894),
    ("oszicar/OSZICAR.positive_energy", 1, 9, 46.575827),
    ("oszicar/OSZICAR.potim", 3, 106, 83.583891),
]
KILLED = [("Mg_O_q0", 16), ("Mg_O_q1", 26)]


@real_output
def test_every_row_of_the_list_is_looked_at():
    """The folder's own table, whatever it comes to hold, against the numbers asserted here."""
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in (SHARED / "README.md").read_text().splitlines()]
    listed = [(row[0].split(" (")[0], *row[1:]) for row in rows if len(row) == 4 and "/" in row[0]]
    known = {path.replace(".OUTCAR.gz", ""): [*numbers] for path, *numbers in WHOLE}
    known |= {f"MgO_truncated/{name}.vasprun.xml.gz": [steps, None, None] for name, steps in KILLED}
    assert len(listed) == len(known)
    folder = ""
    for name, *told in listed:
        folder, _, last = name.rpartition("/") if not name.startswith("q=") else (folder, "", name)
        numbers = known[f"{folder}/{last}"]
        assert [float(text.split()[0]) if text else None for text in told] == numbers, name


@real_output
@pytest.mark.parametrize(("path", "ionic", "electronic", "energy"), WHOLE)
def test_real_runs_come_out_as_listed(path, ionic, electronic, energy):
    run = read_vasp_run(SHARED / path)
    assert run.ionic_steps == ionic if ionic else run.ionic_steps > 0
    assert electronic is None or run.electronic_steps == electronic
    assert energy is None or run.energy == pytest.approx(energy, abs=1e-6)
    assert run.finished is (None if "oszicar" in path else True)
    assert run.converged is ("oszicar" not in path)  # an OSZICAR alone tells no forces


@real_output
@pytest.mark.parametrize(("name", "steps"), KILLED)
def test_killed_runs_keep_their_finished_steps(name, steps):
    run = read_vasp_run(SHARED / "MgO_truncated" / f"{name}.vasprun.xml.gz")
    assert (run.ionic_steps, run.finished, run.converged) == (steps, False, False)
    assert f"after {steps} finished" in run.notes[0]
    assert len(run.final) == 216


@real_output
def test_outcar_and_vasprun_tell_the_same_story():
    folder = SHARED / "GaN_Mg_Ga" / "q=0"
    xml, text, both = (read_vasp_run(path) for path in (folder / "vasprun.xml.gz", folder / "OUTCAR.gz", folder))
    for name in ("ionic_steps", "electronic_steps", "optimizer", "force_criterion"):
        assert getattr(xml, name) == getattr(text, name) == getattr(both, name)
    assert text.energy == pytest.approx(xml.energy, abs=1e-7)
    assert text.max_force == pytest.approx(xml.max_force, abs=2e-6)
    assert both.start_max_force == pytest.approx(text.start_max_force, abs=2e-6)
    assert both.magnetization == pytest.approx(0.9888948)
    assert (both.cores, both.wall_seconds) == (288, 136.399)
    contcar = Structure.from_file(folder / "CONTCAR.gz")
    assert np.abs(contcar.frac_coords - both.final.frac_coords).max() < 1e-7


@real_output
def test_an_outcar_alone_tells_the_cell():
    xml, text = (read_vasp_run(SHARED / "GaN_Mg_Ga" / "q=1" / name) for name in ("vasprun.xml.gz", "OUTCAR.gz"))
    assert text.charge == xml.charge == 1.0
    for mine, theirs in ((text.initial, xml.initial), (text.final, xml.final)):
        assert mine.species == theirs.species
        moved = mine.frac_coords - theirs.frac_coords
        assert np.abs(moved - np.rint(moved)).max() < 2e-6  # an OUTCAR has five decimals
    assert text.surface["KPOINTS"] == xml.surface["KPOINTS"]
    assert (text.surface["GGA"], text.surface["ENCUT"], text.surface["POTCAR"]) == ("PS", "500.0", ["PAW_PBE"])
    assert text.surface != xml.surface  # it tells less, so the two are not taken for the same


@pytest.mark.parametrize(
    ("line", "cores"),
    [
        (" running on  288 total cores", 288),
        (" running   48 mpi-ranks, with    1 threads/rank, on    1 nodes", 48),
        (" running   12 mpi-ranks, with    4 threads/rank, on    1 nodes", 48),
    ],
)
def test_threads_are_cores_too(tmp_path, line, cores):
    (tmp_path / "OUTCAR").write_text(f"{line}\n")
    assert read_vasp_run(tmp_path).cores == cores


@real_output
@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_a_file_cut_anywhere_gives_a_status(tmp_path, name):
    whole = gzip.decompress((SHARED / "GaN_Mg_Ga" / "q=0" / f"{name}.gz").read_bytes())
    steps = []
    for fraction in (0.0, 0.01, 0.3, 0.5, 0.8, 0.95):
        (tmp_path / name).write_bytes(whole[: int(fraction * len(whole))])
        run = read_vasp_run(tmp_path / name)
        assert run.finished is False
        assert run.converged is False or run.ionic_steps == 5
        assert "cut off" in run.notes[0]
        steps.append(run.ionic_steps)
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert 0 < steps[-1] <= 5


@real_output
def test_archived_attempts_are_counted(tmp_path):
    for name, folder in (("error.1", "q=0"), ("error.2", "q=1")):
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as archive:
            for kind in ("vasprun.xml", "OUTCAR"):
                data = gzip.decompress((SHARED / "GaN_Mg_Ga" / folder / f"{kind}.gz").read_bytes())
                member = tarfile.TarInfo(f"{name}/{kind}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    corrections = [{"errors": ["zbrent"]}, {"errors": ["eddrmm"]}]
    (tmp_path / "custodian.json").write_text(json.dumps([{"job": {}, "corrections": corrections}]))
    (tmp_path / "vasprun.xml.gz").write_bytes((SHARED / "GaN_v_N" / "q=0" / "vasprun.xml.gz").read_bytes())
    attempts = read_attempts(tmp_path)
    assert [attempt.ionic_steps for attempt in attempts] == [5, 5, 8]
    assert [attempt.electronic_steps for attempt in attempts] == [40, 45, 61]
    assert [attempt.corrections for attempt in attempts] == [("zbrent",), ("eddrmm",), ()]
    assert attempts[0].changed_tags == {}
    assert attempts[1].changed_tags["NELECT"] == "276.0"
    assert read_runs(tmp_path)[-1].final is not None


@real_output
@pytest.mark.filterwarnings("ignore:No POTCAR file with matching TITEL:UserWarning")
def test_vasp_document_agrees_with_its_files():
    folder = SHARED / "GaN_Mg_Ga" / "q=0"
    document = TaskDoc.from_directory(folder)
    outcome, run = read_document(document), read_vasp_run(folder)
    ledger = outcome.ledger
    assert read_document(jsanitize(document, strict=True)).ledger == ledger
    assert (ledger.ionic_steps, ledger.electronic_steps, outcome.trajectory_length) == (5, 40, 5)
    for name in ("energy", "start_max_force", "max_force", "force_criterion", "wall_seconds", "cores", "optimizer"):
        assert getattr(ledger, name) == pytest.approx(getattr(run, name)), name
    assert ledger.core_hours == pytest.approx(288 * 136.399 / 3600)
    assert ledger.converged
    assert len(outcome.structure) == 32


def test_no_vasp_output_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no VASP output"):
        read_vasp_run(tmp_path)
    with pytest.raises(InputError, match="no VASP output"):
        read_attempts(tmp_path)


# ------------------------------------------------------------------ force-field documents

CELL = Structure(Lattice.cubic(4.0), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def document(energies, forces, *, place="trajectory", fmax=0.01, n_steps=None):
    frames = [{"energy": e, "forces": f} for e, f in zip(energies, forces, strict=True)]
    stored = {
        "trajectory": {"energy": list(energies), "forces": list(forces)},
        "pymatgen": {"frame_properties": frames},
        "blob": {"blob_uuid": "0", "store": "data"},
    }
    return {
        "ase_calculator_name": "test",
        "structure": CELL.as_dict(),
        "input": {"mol_or_struct": CELL.as_dict(), "relax_kwargs": {"fmax": fmax}, "optimizer_kwargs": None},
        "output": {
            "mol_or_struct": CELL.as_dict(),
            "energy": energies[-1],
            "forces": forces[-1],
            "n_steps": n_steps or len(energies),
            "ionic_steps": frames if place == "steps" else [],
        },
        "objects": {"trajectory": stored[place]} if place in stored else {},
    }


FRAMES = [[[0.3, 0.4, 0.0], [0.0, 0.0, 0.1]], [[0.1, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.006, 0.008], [0, 0, 0]]]


@pytest.mark.parametrize("place", ["trajectory", "pymatgen", "steps"])
@pytest.mark.parametrize("repeated", [False, True])
def test_every_force_evaluation_counts_once(place, repeated):
    energies, forces = [-1.0, -2.0, -2.5], list(FRAMES)
    if repeated:
        energies, forces = [*energies, energies[-1]], [*forces, forces[-1]]
    outcome = read_document(document(energies, forces, place=place))
    assert outcome.ledger.ionic_steps == outcome.trajectory_length == 3
    assert outcome.ledger.start_max_force == pytest.approx(0.5)
    assert outcome.ledger.max_force == pytest.approx(0.01)
    assert outcome.ledger.point_group_start == "m-3m"
    assert outcome.ledger.notes == ()


@pytest.mark.parametrize(("fmax", "converged"), [(0.011, True), (0.009, False)])
def test_convergence_is_judged_by_forces(fmax, converged):
    assert read_document(document([-1.0, -2.0, -2.5], FRAMES, fmax=fmax)).ledger.converged is converged


def test_a_trajectory_that_was_not_loaded_is_said():
    outcome = read_document(document([-1.0, -2.0, -2.5], FRAMES, place="blob"))
    assert (outcome.ledger.ionic_steps, outcome.trajectory_length) == (3, None)
    assert "no trajectory" in outcome.ledger.notes[0]


def test_other_documents_are_refused():
    with pytest.raises(InputError, match="no ledger for a document 'Whatever'"):
        read_document({"@class": "Whatever"})


@given(arrays(float, (5, 3), elements=st.floats(-10, 10)), st.permutations(range(5)))
def test_largest_force_is_a_norm_over_atoms(forces, order):
    value = largest_force(forces)
    assert value == pytest.approx(max(np.sqrt((forces**2).sum(axis=1))))
    assert largest_force(forces[list(order)][:, ::-1]) == pytest.approx(value)


def test_a_repeated_frame_needs_equal_energy_and_forces():
    assert repeats_last_frame([1.0, 1.0], [FRAMES[0], FRAMES[0]])
    assert not repeats_last_frame([1.0, 1.0], [FRAMES[0], FRAMES[1]])
    assert not repeats_last_frame([1.0, 2.0], [FRAMES[0], FRAMES[0]])
    assert not repeats_last_frame([1.0], [FRAMES[0]])


def test_point_group_of_a_distorted_cell_falls():
    cell = CELL * (2, 2, 2)
    assert point_group(cell) == "m-3m"
    cell.translate_sites([0], [0.0, 0.0, 0.1], frac_coords=False)
    assert point_group(cell) == "4mm"
