"""Relaxations with an ASE calculator whose process is killed: steps are on disk, counted, and gone on from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import Trajectory
from atomate2.ase.jobs import EmtRelaxMaker
from flow_helpers import CU, RELAX
from jobflow import run_locally

from definet_flows.errors import InputError
from definet_flows.hosts import make_host, to_structure
from definet_flows.ledger import read_document, read_steps
from definet_flows.ledger.ase_steps import PROCESSOR_SECONDS, whole_frames
from definet_flows.schemas import HostRun, RelaxedHost
from definet_flows.stores import open_store
from definet_flows.workflows.campaign.beginning import host_relaxation
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.relaunched import RelaunchedMaker

_FLOW = """
import sys
from pathlib import Path
from pymatgen.core import Lattice, Structure
from slow_maker import engine
from definet_flows import defect_flow
from definet_flows.workflows.campaign.local import run_here
strained = Structure(Lattice.hexagonal(2.5124, 20), ["B", "N"], [[1 / 3, 2 / 3, 0.5], [0.61, 0.36, 0.5]])
host = strained if sys.argv[4] == "host" else "BN"
flow = defect_flow(host, supercell=(2, 2, 1), defects=("C_B",), engine=engine(sys.argv[2]), store=sys.argv[3],
                   relax_host=sys.argv[4] == "host", control_fraction=0.0)
run_here(flow, Path(sys.argv[1]), lambda *_: None)
"""
_RETRY = """
import sys
from pathlib import Path
from slow_maker import engine
from definet_flows import open_store
from definet_flows.workflows.campaign.local import run_here
from definet_flows.workflows.recovery.retry import retry_flow, unfinished
with open_store(sys.argv[3]) as records:
    ids = unfinished(records, engine(sys.argv[2]))
run_here(retry_flow(ids, engine(sys.argv[2]), sys.argv[3]), Path(sys.argv[1]), lambda *_: None)
"""


def _start(folder, kind, store, base="given", script=_FLOW):
    support = Path(__file__).parents[2] / "support"
    paths = os.pathsep.join([str(support), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder), kind, store, base],
        env={**os.environ, "PYTHONPATH": paths, "DEFINET_FLOWS_DATA_DIR": str(folder.parent / "data")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill_after(process, folder, frames, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        found = list(folder.rglob("relaxation.traj"))
        if found and len(whole_frames(found[0])) >= frames:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return found[0]
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no {frames} steps within {seconds} s")


def _killed_and_run_again(tmp_path, kind, frames, seconds, script=_FLOW):
    """Return the record after both launches, and the trajectories of both; the second launch is the script's."""
    store = str(tmp_path / "records.sqlite")
    first, second = tmp_path / "first", tmp_path / "second"
    one = _kill_after(_start(first, kind, store), first, frames, seconds)
    assert _start(second, kind, store, script=script).wait(seconds) == 0
    other = next(second.rglob("relaxation.traj"))
    with open_store(store, read_only=True) as records:
        (arm,) = records.record_rows()
        return records.record(arm.id), whole_frames(one), whole_frames(other)


def _check(record, earlier, later):
    assert record.status == "done"
    _check_ledger(record, earlier, later)


def _check_ledger(record, earlier, later):
    assert record.ledger.converged
    assert record.ledger.ionic_steps == len(earlier) + len(later)
    assert [attempt.ionic_steps for attempt in record.ledger.attempts] == [len(earlier), len(later)]
    assert [attempt.finished for attempt in record.ledger.attempts] == [False, True]
    assert np.allclose(later[0].positions, earlier[-1].positions, atol=1e-6)
    assert not np.allclose(later[0].positions, earlier[0].positions, atol=1e-6)
    norms = np.linalg.norm(earlier[0].get_forces(), axis=1)
    assert record.ledger.start_max_force == pytest.approx(norms.max())
    assert record.ledger.wall_seconds > 0
    seconds = [frames[-1].info[PROCESSOR_SECONDS] for frames in (earlier, later)]
    assert sum(seconds) <= 3600 * record.ledger.core_hours <= sum(seconds) + 1
    assert [frame.info[PROCESSOR_SECONDS] for frame in earlier] == sorted(f.info[PROCESSOR_SECONDS] for f in earlier)


@pytest.mark.slow
def test_a_killed_relaxation_goes_on_from_its_last_positions_and_counts_both_launches(tmp_path):
    _check(*_killed_and_run_again(tmp_path, "slow", 3, 240))


@pytest.mark.slow
def test_retry_goes_on_with_a_killed_relaxation_as_run_does(tmp_path):
    _check(*_killed_and_run_again(tmp_path, "slow", 3, 240, _RETRY))


@pytest.mark.slow
def test_a_killed_relaxation_of_the_host_goes_on_and_counts_both_launches(tmp_path):
    store, first, second = str(tmp_path / "records.sqlite"), tmp_path / "first", tmp_path / "second"
    earlier = whole_frames(_kill_after(_start(first, "slow", store, "host"), first, 3, 240))
    assert _start(second, "slow", store, "host").wait(240) == 0
    later = [whole_frames(path) for path in second.rglob("relaxation.traj")]
    with open_store(store, read_only=True) as records:
        (host,), (run,) = records.find(RelaxedHost), records.find(HostRun)
        (arm,) = records.record_rows()
    whole = [frames for frames in later if len(frames[0]) == 8 and "C" not in frames[0].symbols]
    assert len(later) == 2  # host, defect
    assert run.status == "done"
    assert arm.status == "done"
    _check_ledger(host, earlier, *whole)
    assert np.allclose(host.relaxed, whole[0][-1].positions, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gpaw") is None, reason="GPAW is not installed: see docs/gpaw.md")
def test_a_killed_relaxation_with_gpaw_goes_on(tmp_path):
    _check(*_killed_and_run_again(tmp_path, "gpaw", 2, 500))


@pytest.fixture
def trajectory(tmp_path):
    path = tmp_path / "relaxation.traj"
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5], pbc=True)
    with Trajectory(path, "w") as file:
        for step in range(4):
            atoms.positions[1, 2] = 1 - 0.1 * step
            atoms.calc = SinglePointCalculator(atoms, energy=-step, forces=[[0, 0, 0.4 - 0.1 * step], [0, 0, 0]])
            atoms.info = {PROCESSOR_SECONDS: 9.0 * (step + 1)}
            file.write(atoms)
    return path


def test_what_is_on_disk_is_the_ledger(trajectory):
    outcome = read_steps(trajectory, criterion=0.01, optimizer="BFGS", where="here:/a", wall_seconds=3.0)
    ledger = outcome.ledger
    assert (ledger.ionic_steps, ledger.energy, ledger.converged) == (4, -3.0, False)
    assert (ledger.start_max_force, ledger.max_force) == pytest.approx((0.4, 0.1))
    assert ledger.attempts[0].directory == "here:/a"
    assert ledger.core_hours == pytest.approx(0.01)
    assert outcome.structure.cart_coords[1, 2] == pytest.approx(0.7)


@pytest.mark.parametrize("lost", [1, 60, 200, 500])
def test_a_last_frame_in_pieces_does_not_cost_those_before(trajectory, lost):
    trajectory.write_bytes(trajectory.read_bytes()[:-lost])
    frames = whole_frames(trajectory)
    assert 1 <= len(frames) <= 4
    assert [frame.get_potential_energy() for frame in frames] == [-float(step) for step in range(len(frames))]


def test_no_frame_is_no_step(tmp_path):
    path = tmp_path / "relaxation.traj"
    path.write_bytes(b"- of Ulm")
    with pytest.raises(InputError, match="holds no step"):
        read_steps(path, criterion=0.01, optimizer="BFGS", where="here:/a")


@pytest.fixture
def emt():
    return resolve_engine(EmtRelaxMaker(relax_cell=False, relax_kwargs=RELAX))


def test_a_finished_launch_states_its_processor_time(emt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copper = to_structure(make_host(CU, (2, 2, 2)))
    copper.remove_sites([0])
    job = emt.relaxation(copper, "a record of no store", str(tmp_path / "records.sqlite"))
    began = time.process_time()
    output = run_locally(job, create_folders=True, ensure_success=True, log=False)[job.uuid][1].output
    most = (time.process_time() - began) / 3600
    outcome = read_document(output)
    (path,) = tmp_path.rglob("relaxation.traj")
    spent = [frame.info[PROCESSOR_SECONDS] / 3600 for frame in whole_frames(path)]
    assert len(spent) == outcome.ledger.ionic_steps > 2
    assert 0 < spent[0] < spent[-1] <= outcome.ledger.core_hours + 1e-6 < most
    assert PROCESSOR_SECONDS not in outcome.structure.properties
    assert outcome.ledger.notes == ()


@pytest.mark.parametrize("queued", [True, False], ids=["a queue may still run it", "it is known to have ended"])
def test_a_host_that_another_job_relaxes_is_left_alone(emt, tmp_path, queued):
    store, host = str(tmp_path / "records.sqlite"), make_host(CU, (2, 2, 2))
    _, other = host_relaxation(host, emt, store)
    with open_store(store) as records:
        theirs = other.own(records)
        place = theirs.provenance.model_copy(update={"directory": "/a/folder", "owner": "another job"})
        if queued:
            place = place.model_copy(update={"session": None, "pid": None})
        else:
            place = place.model_copy(update={"session": "a lease that is not there"})
        records.put(theirs.model_copy(update={"provenance": place}))
    job, mine = host_relaxation(host, emt, store)
    with open_store(store, read_only=True) as records:
        run = records.host_run(theirs.id)
        if queued:
            assert mine.own(records) is None
            assert other.own(records).id == run.id
        else:
            assert mine.own(records).id == run.id
            assert run.provenance.job_uuid == job.uuid
            assert run.provenance.directory == "/a/folder"  # its launch is looked for there
    assert isinstance(job.function.__self__, RelaunchedMaker) is not queued
