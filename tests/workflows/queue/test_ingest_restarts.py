"""Which runs in a tree belong to the same relaxation, which are no relaxation, and which of two alike is kept."""

from __future__ import annotations

import shutil
from itertools import permutations

import pytest
from vasp_files import HOST, write_run
from vasp_helpers import WARNINGS

from definet_flows.workflows.recovery.ingest import NOT_UNRELAXED, ingest

pytestmark = WARNINGS


def steps(found):
    """Return status, ionic steps and charge of the records."""
    return sorted((r.status, r.ledger.ionic_steps, r.configuration.charge) for r in found.records.values())


def only(found):
    (record,) = found.records.values()
    return record


def test_a_restart_is_chained_to_what_it_continues(tmp_path):
    write_run(tmp_path / "b_first", [0.0, 0.05, 0.1], last_force=0.3)
    write_run(tmp_path / "a_second", [0.1, 0.12], IBRION=1)
    found = ingest(HOST, tmp_path)
    record = only(found)
    assert (record.status, record.ledger.converged, record.ledger.ionic_steps) == ("done", True, 5)
    assert [attempt.ionic_steps for attempt in record.ledger.attempts] == [3, 2]
    assert record.ledger.attempts[1].changed_tags == {"IBRION": "1"}
    assert record.ledger.electronic_steps == 10
    assert record.ledger.start_max_force == pytest.approx(0.5)
    assert record.provenance.directory.endswith("a_second")
    assert "optimiser changed: conjugate gradient, then RMM-DIIS" in record.ledger.notes
    assert not any(note.startswith(NOT_UNRELAXED) for note in record.ledger.notes)
    assert list(found.left_out) == [str(tmp_path / "b_first")]
    assert "continued in" in found.left_out[str(tmp_path / "b_first")]


@pytest.mark.parametrize("names", list(permutations("abc")))
def test_restarts_of_restarts_in_any_order_of_names(tmp_path, names):
    for name, shifts in zip(names, ([0.0, 0.05], [0.05, 0.08, 0.1], [0.1, 0.11]), strict=True):
        write_run(tmp_path / name, shifts)
    found = ingest(HOST, tmp_path)
    assert [attempt.ionic_steps for attempt in only(found).ledger.attempts] == [2, 3, 2]
    assert len(found.left_out) == 2


def test_a_restart_of_one_step_displaces_nothing(tmp_path):
    write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    write_run(tmp_path / "restart", [0.1])
    assert steps(ingest(HOST, tmp_path)) == [("done", 4, 0)]


@pytest.mark.parametrize("dates", [("2024 01 02", "2024 01 03"), ("2024 01 01", "2024 01 01")])
def test_restarts_that_move_nothing_make_no_circle(tmp_path, dates):
    write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    for name, date in zip(("one", "two"), dates, strict=True):
        write_run(tmp_path / name, [0.1], date=date)
    found = ingest(HOST, tmp_path)
    # dates tell that one came after the other; else both continue the first run
    assert only(found).ledger.ionic_steps == (5 if dates[0] != dates[1] else 4)
    assert len(found.left_out) == 2


def test_two_runs_that_go_back_and_forth(tmp_path):
    write_run(tmp_path / "there", [0.1, 0.2])
    write_run(tmp_path / "back", [0.2, 0.1])
    assert only(ingest(HOST, tmp_path)).ledger.ionic_steps == 4


def test_a_run_is_not_continued_by_an_earlier(tmp_path):
    write_run(tmp_path / "late", [0.0, 0.05, 0.1], date="2024 02 01")
    write_run(tmp_path / "early", [0.1, 0.2], date="2024 01 01", energy=-90.0)
    found = ingest(HOST, tmp_path)
    assert only(found).ledger.ionic_steps == 3
    assert "ended 10.000 eV higher" in next(iter(found.left_out.values()))


def test_two_runs_from_one_start_are_not_chained(tmp_path):
    write_run(tmp_path / "still", [0.0])  # it ends where it began
    write_run(tmp_path / "other", [0.0, 0.05], energy=-101.0)
    found = ingest(HOST, tmp_path)
    assert only(found).ledger.ionic_steps == 2
    assert "ended 1.000 eV higher" in next(iter(found.left_out.values()))


def test_a_restart_of_what_is_not_there_says_so(tmp_path):
    write_run(tmp_path / "restart", [0.1, 0.12])
    record = only(ingest(HOST, tmp_path))
    assert record.ledger.ionic_steps == 2
    (note,) = (note for note in record.ledger.notes if note.startswith(NOT_UNRELAXED))
    assert "up to 0.10 Å off the host's sites" in note


def test_a_tie_keeps_the_run_from_the_unrelaxed_start(tmp_path):
    write_run(tmp_path / "a_restart", [0.2, 0.1])  # of a run that is not there
    write_run(tmp_path / "b_run", [0.0, 0.05, 0.1], energy=-100.0 + 5e-4)
    found = ingest(HOST, tmp_path)
    assert only(found).ledger.ionic_steps == 3
    (reason,) = found.left_out.values()
    assert "the same end as in" in reason
    assert "not from the unrelaxed start" in reason


def test_a_restart_with_other_settings_is_a_relaxation_of_its_own(tmp_path):
    write_run(tmp_path / "coarse", [0.0, 0.05, 0.1])
    write_run(tmp_path / "fine", [0.1, 0.12], ENMAX=500)
    found = ingest(HOST, tmp_path)
    assert steps(found) == [("done", 2, 0), ("done", 3, 0)]
    assert found.left_out == {}
    (fine,) = (r for r in found.records.values() if r.ledger.ionic_steps == 2)
    (note,) = (note for note in fine.ledger.notes if note.startswith(NOT_UNRELAXED))
    assert "ENMAX 500" in note
    assert "steps before it are not counted" in note


def test_a_charge_state_from_the_neutral_end_is_no_restart(tmp_path):
    write_run(tmp_path / "q=0", [0.0, 0.05, 0.1])
    write_run(tmp_path / "q=-1", [0.1, 0.12], charge=-1)
    found = ingest(HOST, tmp_path)
    assert steps(found) == [("done", 2, -1), ("done", 3, 0)]
    (charged,) = (r for r in found.records.values() if r.configuration.charge)
    assert any("charge +0" in note for note in charged.ledger.notes if note.startswith(NOT_UNRELAXED))


@pytest.mark.parametrize("shifts", [[0.1], [0.1, 0.15]])
def test_a_restart_that_broke_off_does_not_spoil_what_had_converged(tmp_path, shifts):
    write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    write_run(tmp_path / "restart", shifts, ended=False)
    found = ingest(HOST, tmp_path)
    assert steps(found) == [("done", 3, 0)]
    assert "broke off" in found.left_out[str(tmp_path / "restart")]


def test_a_restart_of_a_killed_run(tmp_path):
    write_run(tmp_path / "killed", [0.0, 0.05, 0.1], ended=False, last_force=0.4)
    write_run(tmp_path / "restart", [0.1, 0.15, 0.16])
    assert steps(ingest(HOST, tmp_path)) == [("done", 6, 0)]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"NSW": 0}, "NSW 0: a static calculation"),
        ({"IBRION": -1}, "IBRION -1: a static calculation"),
        ({"IBRION": 0}, "IBRION 0: molecular dynamics"),
        *(({"IBRION": k}, f"IBRION {k}: phonons") for k in (5, 6, 7, 8)),
        ({"IBRION": 44}, "IBRION 44: a dimer"),
        ({"IBRION": 12}, "IBRION 12: no optimiser of VASP"),
        ({"ISIF": 3}, "ISIF 3: the cell was relaxed too"),
    ],
)
@pytest.mark.parametrize("files", ["vasprun.xml", "OUTCAR"])
def test_other_runs_are_left_out_by_name(tmp_path, tags, reason, files):
    write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    other = write_run(tmp_path / "other", [0.1], energy=-101.0, **tags)
    for name in {"vasprun.xml", "OUTCAR"} - {files}:
        (other / name).unlink()
    found = ingest(HOST, tmp_path)
    assert steps(found) == [("done", 3, 0)]
    assert reason in found.left_out[str(other)]


# ------------------------------------------------------------------ several runs in one folder


def in_one_folder(folder, *runs, last=".relax2"):
    """Write runs as custodian's double relaxation leaves them."""
    for number, shifts in enumerate(runs, start=1):
        label = f".relax{number}" if number < len(runs) else last
        made = write_run(folder / "made", shifts)
        for path in made.iterdir():
            shutil.move(path, folder / f"{path.name}{label}")
        made.rmdir()


@pytest.mark.parametrize("last", [".relax2", ""])
def test_a_double_relaxation_is_one(tmp_path, last):
    in_one_folder(tmp_path / "run", [0.0, 0.05, 0.1], [0.1, 0.12], last=last)
    found = ingest(HOST, tmp_path)
    assert [attempt.ionic_steps for attempt in only(found).ledger.attempts] == [3, 2]
    assert found.left_out == {}


def test_a_lone_second_relaxation(tmp_path):
    in_one_folder(tmp_path / "run", [0.1, 0.12], last=".relax2")
    record = only(ingest(HOST, tmp_path))
    assert (record.status, record.ledger.ionic_steps) == ("done", 2)
    assert any(note.startswith(NOT_UNRELAXED) for note in record.ledger.notes)


def test_runs_in_one_folder_that_do_not_continue_each_other(tmp_path):
    in_one_folder(tmp_path / "run", [0.0, 0.05, 0.1], [0.0, 0.12])
    found = ingest(HOST, tmp_path)
    assert found.records == {}
    assert "relax2, which does not begin where the run before it ended" in found.left_out[str(tmp_path / "run")]
