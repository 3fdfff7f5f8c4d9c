"""Relaxations that claims of the paper are measured with: both starts of a configuration, and runs that are stopped."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from definet_flows.defects import nodes, place
from definet_flows.hosts import make_host
from definet_flows.model.data.archive import PairSet
from standins.copper import CU, write_weights

POTENTIALS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "paper" / "potentials.py"))
RELAXATIONS = POTENTIALS["relax"].__globals__  # of benchmarks/support/paper_relax.py
relax, from_both_starts, host_at_rest = (RELAXATIONS[name] for name in ("relax", "from_both_starts", "host_at_rest"))
HOST = make_host(CU, (2, 2, 2))
VACANT = place(HOST, ["v_Cu@0"])
ATOMS = nodes(HOST, VACANT)[1] == 0


@pytest.fixture(autouse=True)
def copper(monkeypatch):
    monkeypatch.setitem(RELAXATIONS, "load_universal", lambda _name: EMT())


def end():
    """Displacements of a vacancy that EMT relaxes."""
    base = host_at_rest("emt", HOST)
    relaxed = relax("emt", np.array(HOST.numbers)[ATOMS], base[ATOMS], HOST, criterion=1e-4, most_steps=200)
    moved = np.zeros_like(base)
    moved[ATOMS] = relaxed.positions - base[ATOMS]
    return base, moved


def test_a_start_at_the_end_is_converged_at_once_and_has_no_error():
    base, moved = end()
    both = from_both_starts("emt", HOST, base, VACANT, moved)
    assert both.predicted.steps == 1 < both.unrelaxed.steps
    assert both.same_minimum
    errors = both.errors(np.ones(len(both.base), dtype=bool))
    assert errors["network"] < 0.1 * errors["dummy"]


def test_a_shift_of_all_atoms_is_no_error_and_no_other_minimum():
    base, moved = end()
    both = from_both_starts("emt", HOST, base, VACANT, moved + 0.3)
    assert both.apart < 0.01
    assert both.errors(np.ones(len(both.base), dtype=bool))["network"] < 1e-3


def test_a_start_with_an_atom_in_the_vacancy_ends_elsewhere():
    base, moved = end()
    neighbour = 1 + int(np.argmin(np.linalg.norm(base[1:] - base[0], axis=1)))
    moved[neighbour] += base[0] - base[neighbour]
    both = from_both_starts("emt", HOST, base, VACANT, moved)
    assert both.apart > 1
    assert not both.same_minimum


def pairs(n: int) -> PairSet:
    numbers, markers = nodes(HOST, VACANT)
    moved = np.tile(end()[1], (n, 1, 1))
    tiles = (np.tile(row, (n, 1)) for row in (numbers, markers))
    return PairSet("copper", HOST, tuple("abcd"[:n]), ("val",) * n, *tiles, np.zeros_like(moved), moved, ())


def test_a_run_that_was_stopped_goes_on_with_the_next_structure(tmp_path, monkeypatch):
    results = tmp_path / "potentials.json"
    small = write_weights(tmp_path / "small.safetensors")
    command = POTENTIALS["main"].__globals__
    monkeypatch.setitem(command, "RESULTS", results)
    monkeypatch.setitem(command, "require_package", lambda _name: None)
    monkeypatch.setitem(command, "load_checkpoint", lambda _name: small)
    monkeypatch.setitem(command, "read_archive", lambda *_: [pairs(4)])
    monkeypatch.setattr("sys.argv", ["potentials.py", "--data", ".", "--structures", "4", "--potential", "sevennet"])
    begun = []

    def stopped(*given):
        begun.append(given)
        if len(begun) == 4:  # the host, two structures, and the third
            raise KeyboardInterrupt
        return relaxed(*given)

    relaxed = command["relaxed"]
    monkeypatch.setitem(command, "relaxed", stopped)
    with pytest.raises(KeyboardInterrupt):
        command["main"]()
    first = json.loads(results.read_text(encoding="utf-8"))
    assert [row["id"] for row in first] == ["a", "b"]
    command["main"]()
    both = json.loads(results.read_text(encoding="utf-8"))
    assert both[:2] == first
    assert [row["id"] for row in both] == list("abcd")
    assert all(row["converged"] and row["relaxed"] < 0.25 * row["dummy"] for row in both)


def test_structures_are_taken_from_the_sets_by_turns():
    sets = [pairs(4), pairs(3)]
    assert [(s is sets[0], entry) for s, entry in POTENTIALS["chosen"](sets, 3)] == [(True, 0), (False, 0), (True, 3)]
