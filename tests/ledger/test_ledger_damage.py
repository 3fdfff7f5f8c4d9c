"""Executions that cannot be read, steps that are no DFT, and output too large for the memory."""

from __future__ import annotations

import gzip
import json
import tarfile
import tracemalloc

import numpy as np
import pytest
from vasp_files import HOST, write_run
from vasp_helpers import SHARED, WARNINGS, real_output

from definet_flows.ledger import read_executions, read_relaxation, read_vasp_run
from definet_flows.workflows.recovery.ingest import ingest

pytestmark = WARNINGS


def archive(folder, number, source, mode="w:gz"):
    path = folder / f"error.{number}.tar.gz"
    with tarfile.open(path, mode) as file:
        for one in sorted(source.iterdir()):
            file.add(one, f"error.{number}/{one.name}")
    return path


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00"])
def test_an_archive_that_cannot_be_read_is_noted(tmp_path, content):
    run = write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    (run / "error.1.tar.gz").write_bytes(content)
    (run / "custodian.json").write_text(json.dumps([{"job": {}, "corrections": [{"errors": ["zbrent"]}]}]))
    ledger = read_relaxation(run).ledger
    assert [(one.ionic_steps, one.finished, one.corrections) for one in ledger.attempts] == [
        (0, False, ("zbrent",)),
        (3, True, ()),
    ]
    (note,) = (note for note in ledger.notes if "error.1.tar.gz is damaged" in note)
    assert "lower bound" in note
    (record,) = ingest(HOST, tmp_path).records.values()
    assert (record.status, record.ledger.ionic_steps) == ("done", 3)
    assert note in record.ledger.notes


@pytest.mark.parametrize("told_by", ["custodian", "numbers"])
def test_an_archive_that_is_gone_is_noted(tmp_path, told_by):
    run = write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    made = write_run(tmp_path / "made", [0.0, 0.01], ended=False, date="2023 12 31")
    corrections = [{"errors": ["zbrent"]}, {"errors": ["eddrmm"]}]
    if told_by == "custodian":
        archive(run, 1, made)
        (run / "custodian.json").write_text(json.dumps([{"job": {}, "corrections": corrections}]))
    else:
        archive(run, 2, made)
    ledger = read_relaxation(run).ledger
    assert sorted(attempt.ionic_steps for attempt in ledger.attempts) == [0, 2, 3]
    assert any("is gone" in note for note in ledger.notes)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_an_archive_cut_off_gives_what_came_out(tmp_path, share):
    run = write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    made = write_run(tmp_path / "made", [0.0, 0.01, 0.02, 0.03], date="2023 12 31")
    for name in ("CONTCAR", "INCAR", "OSZICAR", "POSCAR", "XDATCAR", "vasprun.xml"):
        (made / name).unlink()
    noise = np.random.default_rng(0).bytes(20000).hex()  # does not compress away
    text = (made / "OUTCAR").read_text().replace("LOOP+", f"{noise}\n LOOP+")
    (made / "OUTCAR").write_text(text)
    path = archive(run, 1, made)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    ledger = read_relaxation(run).ledger
    assert 0 < ledger.attempts[0].ionic_steps <= 4
    assert ledger.attempts[0].finished is False
    assert any("error.1.tar.gz is damaged" in note for note in ledger.notes)


def test_an_archive_without_output_needs_no_note(tmp_path):
    run = write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    made = tmp_path / "made"
    made.mkdir()
    (made / "INCAR").write_text("NSW = 3\n")
    archive(run, 1, made)
    ledger = read_relaxation(run).ledger
    assert [attempt.ionic_steps for attempt in ledger.attempts] == [3]
    assert not any("archive" in note or "damaged" in note for note in ledger.notes)


def test_archives_stand_before_the_run_they_belong_to(tmp_path):
    run = tmp_path / "run"
    for label, shifts in ((".relax1", [0.0, 0.1]), (".relax2", [0.1, 0.12, 0.13])):
        for path in write_run(tmp_path / "made", shifts).iterdir():
            run.mkdir(exist_ok=True)
            path.rename(run / f"{path.name}{label}")
    archive(run, 1, write_run(tmp_path / "first", [0.0], ended=False, date="2023 01 01"))
    archive(run, 2, write_run(tmp_path / "second", [0.1, 0.11, 0.115, 0.117], ended=False, date="2023 01 01"))
    jobs = [{"job": {}, "corrections": [{"errors": [word]}]} for word in ("zbrent", "eddrmm")]
    (run / "custodian.json").write_text(json.dumps(jobs))
    executions = read_executions(run)
    assert [(one.run.ionic_steps, one.corrections) for one in executions] == [
        (1, ("zbrent",)),
        (2, ()),
        (4, ("eddrmm",)),
        (3, ()),
    ]
    (record,) = ingest(HOST, tmp_path / "run").records.values()
    assert record.ledger.ionic_steps == 10


# ------------------------------------------------------------------ machine-learned force fields


def with_ml(text, *, last=False):
    """Return an OUTCAR in which a force field evaluates every step before DFT does; `last`: and once more."""
    head, *steps = text.split(" POSITION  ")
    made = head
    for step in steps:
        table, rule, rest = step.partition("    total drift")
        words = " ML energy  without entropy=     -999.00000000  ML energy(sigma->0) =     -999.00000000\n"
        ml = " POSITION  " + table.replace("(eV/Angst)", "(eV/Angst) (ML)") + words
        made += ml + " POSITION  " + table + rule + rest
    head, mark, tail = made.rpartition(" General timing")
    return head + (ml if last else "") + mark + tail


@real_output
@pytest.mark.parametrize("last", [False, True])
def test_steps_of_a_force_field_are_no_ionic_steps(tmp_path, last):
    text = gzip.decompress((SHARED / "GaN_Mg_Ga" / "q=0" / "OUTCAR.gz").read_bytes()).decode("latin-1")
    (tmp_path / "OUTCAR").write_text(with_ml(text, last=last), encoding="latin-1")
    plain = read_vasp_run(SHARED / "GaN_Mg_Ga" / "q=0" / "OUTCAR.gz")
    run = read_vasp_run(tmp_path)
    assert (run.ionic_steps, run.electronic_steps, run.ml_steps) == (5, 40, 5 + last)
    assert (run.energy, run.max_force, run.finished) == (plain.energy, plain.max_force, True)
    assert run.converged is not last
    ledger = read_relaxation(tmp_path).ledger
    assert f"{5 + last} steps by a machine-learned force field are not counted as ionic steps" in ledger.notes
    assert ledger.ionic_steps == 5


def test_an_oszicar_does_not_bring_them_back(tmp_path):
    run = write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    (run / "OUTCAR").write_text(with_ml((run / "OUTCAR").read_text()))
    lines = (run / "OSZICAR").read_text().splitlines(keepends=True)
    steps = [line for line in lines if "F=" in line]
    (run / "OSZICAR").write_text("".join(lines + steps))
    ledger = read_relaxation(run).ledger
    assert ledger.ionic_steps == 3
    assert any("3 steps by a machine-learned" in note for note in ledger.notes)


def test_a_relaxation_by_a_force_field_alone_is_left_out(tmp_path):
    run = write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    text = (run / "OUTCAR").read_text().replace("(eV/Angst)", "(eV/Angst) (ML)").replace("energy", "ML energy")
    for path in run.iterdir():
        path.unlink()
    (run / "OUTCAR").write_text(text)
    assert "no DFT" in next(iter(ingest(HOST, tmp_path).left_out.values()))


# ------------------------------------------------------------------ size


@pytest.mark.parametrize("filler", [b"\n", b"", b"some words of VASP\n"])
def test_a_large_outcar_is_read_as_a_stream(tmp_path, filler):
    run = write_run(tmp_path / "run", [0.0, 0.05, 0.1])
    text = (run / "OUTCAR").read_bytes()
    head, mark, tail = text.partition(b"LOOP+")
    (run / "OUTCAR").unlink()
    block = filler * 50_000 if filler else bytes(1_000_000)
    with gzip.open(run / "OUTCAR.gz", "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(80 if not filler else 8):
            file.write(block)
        file.write(b"\n" + mark + tail)
    tracemalloc.start()
    try:
        ledger = read_relaxation(run).ledger
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ledger.ionic_steps == 3
    assert peak < 30e6
