"""Relaxations of others in extended XYZ become records that every command reads."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.defects import Choices, enumerate_configurations
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.schemas import Gate, PredictionNote, Supercell
from definet_flows.stores import open_store
from definet_flows.stores.analysis.counts import counts
from definet_flows.stores.analysis.pairs import judge
from definet_flows.stores.analysis.savings import savings
from definet_flows.workflows.learning.active.pool import fit_steps
from definet_flows.workflows.recovery.ingest_pairs import ingest_frames, write_frames

UNIT = bulk("MgO", "rocksalt", a=4.2, cubic=True)
PBE = "PBE 500 eV"

runner = CliRunner()


def field(frame: Atoms, centre: np.ndarray, size: float = 0.2) -> np.ndarray:
    """Return displacements away from a defect, decaying, with a twist that no symmetry of the host keeps, Å."""
    away = frame.positions - centre
    away = (away @ np.linalg.inv(frame.cell.array) + 0.5) % 1.0 - 0.5
    away = away @ frame.cell.array
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    twist = np.cross(away, [0.1, 0.2, 0.3])
    return size * (away + twist) / (distance + 0.5) * np.exp(-distance / 3)


def relaxed(frame: Atoms, moved: np.ndarray, **info: object) -> Atoms:
    frame = frame.copy()
    frame.arrays["relaxed_positions"] = frame.positions + moved
    frame.info = {"functional": PBE, **info}
    return frame


def vacancy(repeats: tuple[int, int, int] = (2, 2, 2), site: int = 9, size: float = 0.2, **info: object) -> Atoms:
    """Return a relaxed vacancy; odd sites are oxygen."""
    cell = UNIT.repeat(repeats)
    centre = cell.positions[site].copy()
    del cell[site]
    return relaxed(cell, field(cell, centre, size), **info)


def calcium(**info: object) -> Atoms:
    cell = UNIT.repeat((2, 2, 2))
    cell.numbers[10] = 20
    return relaxed(cell, field(cell, cell.positions[10]), **info)


def lithium(**info: object) -> Atoms:
    cell = UNIT.repeat((2, 2, 2))
    cell.append("Li")
    cell.positions[-1] = [1.05, 1.05, 1.05]
    return relaxed(cell, field(cell, cell.positions[-1]), **info)


@pytest.fixture
def host(tmp_path):
    path = tmp_path / "POSCAR"
    ase.io.write(path, UNIT, format="vasp")
    return path


def written(path, *frames):
    ase.io.write(path, list(frames), format="extxyz", write_results=False)
    return path


def lengths(record):
    return np.linalg.norm((record.sites.relaxed - record.sites.unrelaxed)[list(record.sites.permutation)], axis=1)


def distances(frame, positions):
    return Atoms(frame.numbers, positions, cell=frame.cell, pbc=True).get_all_distances(mic=True)


def assert_same_ends(record, frame):
    """All distances between atoms at the end are those of the frame, and every atom has moved as far."""
    placed = Atoms(frame.numbers, cell=record.host.lattice, pbc=True)
    mine = distances(placed, record.sites.relaxed[list(record.sites.permutation)])
    np.testing.assert_allclose(mine, distances(frame, frame.arrays["relaxed_positions"]), atol=1e-4)
    np.testing.assert_allclose(lengths(record), moved_lengths(frame), atol=1e-5)


def moved_lengths(frame):
    return np.linalg.norm(frame.arrays["relaxed_positions"] - frame.positions, axis=1)


# ------------------------------------------------------------------ what a frame becomes


def test_frames_become_finished_records_of_their_supercells(tmp_path, host):
    frames = [
        vacancy(charge=2, ionic_steps=12, name="V_O", relaxed_energy=-1.5),
        vacancy((3, 2, 2), charge=0, ionic_steps=9, converged=False),
        calcium(),
        lithium(total_charge=1),
    ]
    found = ingest_frames(written(tmp_path / "all.extxyz", *frames), host)
    assert found.left_out == {}
    records = list(found.records.values())
    assert [(r.name, r.configuration.charge) for r in records] == [("v_O", 2), ("v_O", 0), ("Ca_Mg", 0), ("Li_i", 1)]
    labels = [found.hosts[r.host.hash].label for r in records]
    assert labels == ["MgO 2 x 2 x 2", "MgO 3 x 2 x 2", "MgO 2 x 2 x 2", "MgO 2 x 2 x 2"]
    assert [r.ledger.ionic_steps for r in records] == [12, 9, None, None]
    assert [r.ledger.energy for r in records] == [-1.5, None, None, None]
    assert [r.ledger.converged for r in records] == [True, False, True, True]
    for record, frame in zip(records, frames, strict=True):
        assert (record.status, record.start, record.engine) == ("done", "unrelaxed", PBE)
        assert record.ledger.force_criterion is None
        assert_same_ends(record, frame)
        sites = found.hosts[record.host.hash].host.cartesian
        np.testing.assert_allclose(record.sites.unrelaxed[: len(sites)], sites, atol=1e-9)
    told = [any("convergence unknown" in note for note in r.ledger.notes) for r in records]
    assert told == [True, False, True, True]
    assert "frame 0 (V_O)" in records[0].provenance.directory


def test_the_description_of_a_relaxation_does_not_matter(tmp_path, host):
    (plain,) = ingest_frames(written(tmp_path / "a.xyz", vacancy(charge=1)), host).records.values()
    other = vacancy(charge=1)
    order = np.random.default_rng(1).permutation(len(other))
    other = other[order]
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    shift = np.array([0.7, 1.9, 0.4])
    ends = (other.arrays["relaxed_positions"] + shift) @ turn
    other.set_cell(other.cell.array @ turn)
    other.positions = (other.positions + shift) @ turn
    other.wrap()
    wraps = np.random.default_rng(3).integers(-1, 2, ends.shape) @ other.cell.array
    other.arrays["relaxed_positions"] = ends + wraps
    (again,) = ingest_frames(written(tmp_path / "b.xyz", other), host).records.values()
    assert again.id == plain.id
    # The cell is cubic: which of its rotations the turned cell is laid on is open, so lengths and distances remain.
    assert_same_ends(plain, vacancy(charge=1))
    np.testing.assert_allclose(lengths(again)[np.argsort(order)], lengths(plain), atol=1e-5)
    cell = Atoms(other.numbers, cell=again.host.lattice, pbc=True)
    mine = distances(cell, again.sites.relaxed[list(again.sites.permutation)])
    np.testing.assert_allclose(mine, distances(other, ends), atol=1e-4)


def test_images_of_a_defect_are_one_record(tmp_path, host):
    frames = [vacancy(site=9), vacancy(site=31)]
    first, second = (ingest_frames(written(tmp_path / f"{k}.xyz", frame), host) for k, frame in enumerate(frames))
    assert first.records.keys() == second.records.keys()
    (record,) = second.records.values()
    cell, sites = np.array(record.host.lattice), record.sites
    rows = list(sites.permutation)
    away = (sites.unrelaxed - sites.unrelaxed[sites.markers.index("2")]) @ np.linalg.inv(cell)
    away = (away - np.rint(away)) @ cell
    assert_same_ends(record, frames[1])
    near = np.linalg.norm(away[rows], axis=1) < 2.2
    outward = ((sites.relaxed - sites.unrelaxed) * away).sum(axis=1)[rows][near]
    assert near.sum() == 6
    assert (outward > 0.1).all()  # the field is still around the vacancy


def test_a_defect_that_points_anywhere_is_one_record_with_its_own_end(tmp_path, host):
    cell = UNIT.repeat((2, 2, 2))
    bonds = 2.1 * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    names = set()
    for bond in bonds:
        frame = cell.copy()
        away = (cell.positions - cell.positions[9] - bond) @ np.linalg.inv(cell.cell.array)
        frame.numbers[np.abs(away - np.rint(away)).sum(axis=1).argmin()] = 20
        centre = frame.positions[9].copy()
        del frame[9]
        frame = relaxed(frame, field(frame, centre))
        (record,) = ingest_frames(written(tmp_path / "all.xyz", frame), host).records.values()
        assert_same_ends(record, frame)
        names.add((record.name, record.id))
    assert len(names) == 1


def test_a_supercell_may_be_the_host_and_an_end_may_wrap(tmp_path):
    host = tmp_path / "bulk.extxyz"
    ase.io.write(host, UNIT.repeat((2, 2, 2)), format="extxyz")
    frame = vacancy()
    frame.arrays["relaxed_positions"][5] -= frame.cell.array[1]
    (record,) = ingest_frames(written(tmp_path / "all.extxyz", frame), host).records.values()
    np.testing.assert_allclose(lengths(record), moved_lengths(vacancy()), atol=1e-5)


def test_a_start_off_the_sites_is_noted_and_counts_from_the_sites(tmp_path, host):
    frame = vacancy()
    ends = frame.arrays["relaxed_positions"].copy()
    rattle = np.random.default_rng(0).normal(scale=0.05, size=ends.shape)
    frame.positions += rattle
    (record,) = ingest_frames(written(tmp_path / "all.extxyz", frame), host).records.values()
    assert any(note.startswith("not from the unrelaxed start: atoms begin up to 0.") for note in record.ledger.notes)
    np.testing.assert_allclose(lengths(record), moved_lengths(vacancy()), atol=0.02)  # but for the rattle's median


# ------------------------------------------------------------------ what stays apart


def test_functionals_are_never_mixed(tmp_path, host):
    other = vacancy()
    other.info["functional"] = "HSE06  500 eV"
    found = ingest_frames(written(tmp_path / "all.extxyz", vacancy(), other), host)
    first, second = found.records.values()
    assert first.configuration_id == second.configuration_id
    assert first.settings_hash != second.settings_hash
    assert (first.engine, second.engine) == (PBE, "HSE06 500 eV")


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        ({"relaxed_energy": -2.0, "size": 0.3}, {"relaxed_energy": -1.0}, "ended 1.000 eV higher"),
        ({}, {"size": 0.3}, "no energies to compare, and its end is farther from the start"),
        ({"size": 0.3}, {"converged": False}, "not converged"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_of_several_ends_the_better_is_kept(tmp_path, host, low, high, reason, order):
    pair = [vacancy(name="low", **low), vacancy(name="high", **high)][::order]
    found = ingest_frames(written(tmp_path / "all.extxyz", *pair), host)
    (record,) = found.records.values()
    ((place, why),) = found.left_out.items()
    assert "(low)" in record.provenance.directory
    assert "(high)" in place
    assert reason in why


# ------------------------------------------------------------------ bad frames


def without_array(frame):
    del frame.arrays["relaxed_positions"]


def flat_array(frame):
    frame.arrays["relaxed_positions"] = frame.arrays["relaxed_positions"][:, 0].copy()


def not_finite(frame):
    frame.arrays["relaxed_positions"][3, 1] = np.nan


def on_one_place(frame):
    frame.arrays["relaxed_positions"][:] = 1.0


def without_functional(frame):
    del frame.info["functional"]


def half_charge(frame):
    frame.info["charge"] = 0.5


def no_count(frame):
    frame.info["ionic_steps"] = 0


def odd_energy(frame):
    frame.info["relaxed_energy"] = "low"


def odd_convergence(frame):
    frame.info["converged"] = "maybe"


def other_host(frame):
    frame.set_cell(frame.cell.array * 1.1, scale_atoms=True)


def healed(frame):
    frame.append("O")
    frame.positions[-1] = UNIT.repeat((2, 2, 2)).positions[9]
    frame.arrays["relaxed_positions"][-1] = frame.positions[-1]


BAD = {
    without_array: "has no array relaxed_positions",
    flat_array: "relaxed_positions is no table of three numbers",
    not_finite: "relaxed_positions: ",
    on_one_place: "relaxed_positions: ",
    without_functional: "states no functional",
    half_charge: "charge=0.5 is no net charge",
    no_count: "ionic_steps=0 is no number of force evaluations",
    odd_energy: "relaxed_energy=low is no number",
    odd_convergence: "converged=maybe is neither T nor F",
    other_host: "no supercell of host MgO",
    healed: "is the host itself",
}


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_a_bad_frame_is_named_and_the_others_are_taken(tmp_path, host, damage):
    bad = vacancy(name="bad")
    damage(bad)
    found = ingest_frames(written(tmp_path / "all.extxyz", vacancy(), bad, calcium()), host)
    assert sorted(record.name for record in found.records.values()) == ["Ca_Mg", "v_O"]
    ((place, why),) = found.left_out.items()
    assert "all.extxyz frame 1 (bad)" in place
    assert BAD[damage] in why


def test_damaged_text_costs_its_frame_only(tmp_path, host):
    path = written(tmp_path / "all.extxyz", vacancy(), vacancy((3, 2, 2)), calcium())
    lines = path.read_text().splitlines()
    second = 2 + int(lines[0])
    lines[second + 4] = "Qq 1 2 3 4 5 6"
    path.write_text("\r\n".join([*lines, "no frame"]))
    found = ingest_frames(path, host)
    assert sorted(record.name for record in found.records.values()) == ["Ca_Mg", "v_O"]
    reasons = [f"{place.rpartition('extxyz ')[2]}: {why}" for place, why in found.left_out.items()]
    assert reasons[0].startswith("frame 1: ")
    assert reasons[1].startswith(f"after frame 2: line {len(lines) + 1}, 'no frame', is no number of atoms")
    path.write_text("\n".join(lines[: second + 30]))
    found = ingest_frames(path, host)
    assert len(found.records) == len(found.left_out) == 1


@pytest.mark.parametrize("text", ["", "\n\n", "Mg O\n", "\x00"])
def test_a_file_without_frames_is_refused(tmp_path, host, text):
    path = tmp_path / "all.extxyz"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no frame"):
        ingest_frames(path, host)


# ------------------------------------------------------------------ in a store


def test_the_same_file_twice_makes_nothing_twice(tmp_path, host):
    path = written(tmp_path / "all.extxyz", vacancy(), vacancy(size=0.3), vacancy((3, 2, 2)), calcium(ionic_steps=4))
    with open_store(str(tmp_path / "s.sqlite")) as records:
        assert write_frames(records, ingest_frames(path, host)) == {}
        before = sorted(records.store.query(), key=lambda document: document["id"])
        kept = write_frames(records, ingest_frames(path, host))
        assert set(kept.values()) == {"already in the store"}
        assert sorted(records.store.query(), key=lambda document: document["id"]) == before
        assert len(kept) == len(list(records.records())) == 3
        assert len(list(records.find(Supercell))) == 2
        assert {cell.host.hash for cell in records.find(Supercell)} == {r.host.hash for r in records.records()}


def test_a_mended_frame_and_a_better_end_replace_a_record(tmp_path, host):
    path = tmp_path / "all.extxyz"
    with open_store(str(tmp_path / "s.sqlite")) as records:
        write_frames(records, ingest_frames(written(path, vacancy(relaxed_energy=-1.0)), host))
        assert (
            write_frames(records, ingest_frames(written(path, vacancy(relaxed_energy=-1.0, ionic_steps=7)), host)) == {}
        )
        (record,) = records.records()
        assert record.ledger.ionic_steps == 7
        worse = written(tmp_path / "worse.extxyz", vacancy(size=0.3, relaxed_energy=-0.5))
        (why,) = write_frames(records, ingest_frames(worse, host)).values()
        assert "ended 0.500 eV higher" in why
        better = written(tmp_path / "better.extxyz", vacancy(size=0.3, relaxed_energy=-2.0))
        assert write_frames(records, ingest_frames(better, host)) == {}
        (record,) = records.records()
        assert record.ledger.energy == -2.0


def test_unknown_steps_count_nowhere(tmp_path, host):
    path = written(tmp_path / "all.extxyz", vacancy(), vacancy((3, 2, 2)), calcium(ionic_steps=40))
    with open_store(str(tmp_path / "s.sqlite")) as records:
        write_frames(records, ingest_frames(path, host))
        counted, saved, every = counts(records), savings(records), list(records.records())
    assert (counted.ionic_steps, counted.unknown_steps, counted.median_ionic_steps) == (40, 2, 40)
    assert (saved.ionic.pairs, saved.saving, saved.ionic.spending.net) == (0, None, None)
    assert (saved.ionic.spending.without_prediction, saved.ionic.spending.unknown) == (40, 2)
    unknown = next(record for record in every if record.ledger.ionic_steps is None)
    note = PredictionNote(weights="w", seconds=0.1, device="cpu", gate=Gate(verdict="accepted"))
    with pytest.raises(InputError, match="their steps counted"):
        judge(unknown, unknown.model_copy(update={"start": "predicted", "prediction": note}))
    assert fit_steps(every) == fit_steps([record for record in every if record is not unknown])


def test_the_supercells_are_those_of_a_campaign(tmp_path, host):
    frame = vacancy((3, 2, 2))
    frame.positions += [0.9, 0.2, 1.3]
    frame.arrays["relaxed_positions"] += [0.9, 0.2, 1.3]
    (record,) = ingest_frames(written(tmp_path / "all.extxyz", frame), host).records.values()
    made = make_host(str(host), (3, 2, 2))
    assert record.host.hash == made.hash
    (expected,) = enumerate_configurations(made, Choices(defects=("v_O",)))
    assert record.configuration_id == expected.id_in(made.hash)


def test_every_command_reads_such_a_store(tmp_path, host, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    written(tmp_path / "all.extxyz", vacancy(name="V_O"), calcium(ionic_steps=40), lithium(charge=1))
    command = ["ingest", "all.extxyz", "--host", str(host), "--store", "s.sqlite"]
    first = runner.invoke(app, command)
    assert first.exit_code == 0, first.output
    assert (
        "all.extxyz frame 0 (V_O): v_O charge 0 in MgO 2 x 2 x 2: done, unknown ionic steps, settings" in first.output
    )
    assert "MgO 2 x 2 x 2" in first.output
    assert "3 records in" in first.output
    again = runner.invoke(app, command)
    assert again.output.count("already in the store") == 3
    said = {}
    for arguments in (
        ["records"],
        ["records", "--by", "engine"],
        ["savings"],
        ["export", "all.csv"],
        ["export", "all.db"],
        ["export", "out.extxyz"],
        ["report", "-o", "page.html"],
    ):
        result = runner.invoke(app, [*arguments, "--store", "s.sqlite"])
        assert result.exit_code == 0, (arguments, result.output)
        said[arguments[0]] = result.output
    assert "+ 2 unknown" in said["records"]
    assert "no saving can be stated" in said["savings"]


def test_another_host_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("NaCl.vasp", bulk("NaCl", "rocksalt", a=5.6, cubic=True), format="vasp")
    written(tmp_path / "all.extxyz", vacancy(), calcium())
    result = runner.invoke(app, ["ingest", "all.extxyz", "--host", "NaCl.vasp", "--store", "s.sqlite"])
    assert result.exit_code == 2
    assert "none of 2 frames becomes a record" in result.output
    assert "no supercell of host NaCl" in result.output
    assert not (tmp_path / "s.sqlite").exists()
    missing = runner.invoke(app, ["ingest", "none.extxyz", "--host", "NaCl.vasp", "--store", "s.sqlite"])
    assert missing.exit_code == 2
    assert "No such file" in missing.output


def test_a_pristine_host_that_began_off_its_sites_ends_where_the_file_says(tmp_path, host):
    cell = UNIT.repeat((2, 2, 2))
    rattled = cell.copy()
    rattled.positions[10] += [0.2, 0.0, 0.0]
    frame = relaxed(rattled, cell.positions - rattled.positions, relaxed_energy=-1.5, converged=True)
    found = ingest_frames(written(tmp_path / "bulk.extxyz", frame), host)
    (bulk_run,) = found.pristine.values()
    (place,) = found.hosts.values()
    np.testing.assert_allclose(bulk_run.relaxed, place.host.cartesian, atol=1e-6)
