"""Starts as a potential sees them: its energy and forces, in the order of the starts, nothing relaxed."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT

from definet_flows.defects import build_structure, place
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.schemas import Configuration, Edit
from definet_flows.starts.energies import energies_of
from definet_flows.starts.potential import PotentialPreRelaxer
from standins.copper import CU as UNIT

CU = make_host(UNIT, (2, 2, 2))
VACANCY = place(CU, ["v_Cu@0"])
EMT_RELAXER = PotentialPreRelaxer("emt", EMT, "emt", criterion=1e-3)


def test_the_energy_is_that_of_the_positions_and_lowest_where_the_potential_ends():
    (end,) = EMT_RELAXER.propose(CU, CU.cartesian, [VACANCY])
    unrelaxed, half, own = energies_of(
        EMT_RELAXER, CU, CU.cartesian, VACANCY, [None, end.displacements / 2, end.displacements]
    )
    atoms = build_structure(CU, VACANCY).to_ase_atoms()
    atoms.calc = EMT()
    assert unrelaxed.energy == pytest.approx(atoms.get_potential_energy())
    assert unrelaxed.max_force == pytest.approx(np.linalg.norm(atoms.get_forces(), axis=1).max())
    assert own.energy < half.energy < unrelaxed.energy
    assert own.max_force < 2e-3 < half.max_force < unrelaxed.max_force


def test_the_base_counts_and_inserted_atoms_may_have_no_row():
    edit = Edit(marker=3, new=28, position=(0.125, 0.125, 0.125))
    inserted = Configuration(edits=(edit,))
    shifted = CU.cartesian + 0.01 * np.random.default_rng(0).normal(size=(CU.n_sites, 3))
    (here,) = energies_of(EMT_RELAXER, CU, CU.cartesian, inserted, [shifted - CU.cartesian])
    (there,) = energies_of(EMT_RELAXER, CU, shifted, inserted, [None])
    assert here.energy == pytest.approx(there.energy, abs=1e-9)


def test_what_has_no_energy_is_refused():
    with pytest.raises(InputError, match="no finite numbers"):
        energies_of(EMT_RELAXER, CU, CU.cartesian, VACANCY, [np.full((CU.n_sites, 3), np.nan)])
