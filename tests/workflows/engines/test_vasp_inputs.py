"""Every tag of the VASP input set, the spin rule, and that both arms get the same input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobflow import Maker
from monty.json import MontyDecoder
from pymatgen.core import Lattice, Structure

from definet_flows.errors import InputError
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.vasp import maker as vasp
from definet_flows.workflows.engines.vasp.inputs import (
    group_species,
    is_asymmetric_slab,
    mark_defects,
    odd_electrons,
    rattled,
    site_order,
    valence_electrons,
)
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker, VaspDefectSetGenerator

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")

ZVAL = {"Mo_sv": 14.0, "S": 6.0, "W_sv": 14.0, "Se": 6.0, "Nb_sv": 13.0}
PAPER = {"GGA": "Pe", "ENCUT": 500, "ISIF": 2, "EDIFF": 1e-6, "EDIFFG": -0.01, "ISPIN": 2}
OURS = {
    "IBRION": 2,
    "POTIM": 0.5,
    "NSW": 500,
    "PREC": "Accurate",
    "ISMEAR": 0,
    "SIGMA": 0.05,
    "ISYM": 0,
    "LREAL": "Auto",
    "ALGO": "Fast",
    "NELM": 200,
    "LASPH": True,
    "LMAXMIX": 4,
    "LORBIT": 10,
    "LWAVE": False,
    "LCHARG": False,
}
HEIGHT = 1.565 / 20  # of the S planes above the metal's


@pytest.fixture(autouse=True)
def _potcars(monkeypatch):
    monkeypatch.setattr(vasp, "valence_electrons", lambda symbol, functional: ZVAL[symbol] if functional else None)


def host(n=4):
    coords = [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5 + HEIGHT], [2 / 3, 1 / 3, 0.5 - HEIGHT]]
    return Structure(Lattice.hexagonal(3.184, 20.0), ["Mo", "S", "S"], coords) * (n, n, 1)


def cell(vacancy=16, substitution=None, n=4):
    """Return the unrelaxed cell."""
    made = host(n)
    for row, symbol in (substitution or {}).items():
        made.replace(row, symbol)
    if vacancy is not None:
        made.remove_sites([vacancy])
    return made


def defect(vacancy=16, substitution=None, n=4):
    """Return the unrelaxed cell, marked."""
    made = cell(vacancy, substitution, n)
    sites = [host(n)[row].frac_coords for row in (vacancy, *(substitution or {})) if row is not None]
    return mark_defects(made, made, np.array(sites))


def inputs(structure, **settings):
    return VaspDefectSetGenerator(**settings).get_input_set(structure, potcar_spec=True)


def test_every_tag_of_the_set():
    written = inputs(defect())
    assert dict(written.incar) == {**PAPER, **OURS, "MAGMOM": [0.0] * 47, "LDIPOL": True, "IDIPOL": 3}
    assert written.kpoints.style.name == "Gamma"
    assert written.kpoints.kpts == [(1, 1, 1)]
    assert written["POTCAR.spec"].split() == ["Mo_sv", "S"]


def test_nothing_depends_on_the_size():
    small, large = (dict(inputs(defect(vacancy=n * n, n=n)).incar) for n in (3, 8))
    small.pop("MAGMOM")
    large.pop("MAGMOM")
    assert small == large


@pytest.mark.parametrize("charge", [-1, 0, 2])
def test_charge_sets_the_electrons(charge):
    marked = defect()
    marked.set_charge(charge)
    incar = inputs(marked).incar
    assert incar.get("NELECT") == (None if charge == 0 else 16 * 14 + 31 * 6 - charge)
    assert incar.get("LDIPOL") is (True if charge == 0 else None)
    assert sum(incar["MAGMOM"]) == pytest.approx(charge % 2)


def test_a_neutral_cell_needs_no_potcars_and_a_charged_cell_names_the_remedy(monkeypatch, tmp_path):
    written = inputs(defect())
    monkeypatch.setattr(vasp, "valence_electrons", valence_electrons)
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {"PMG_VASP_PSP_DIR": str(tmp_path)})
    valence_electrons.cache_clear()
    without = inputs(defect())
    assert dict(without.incar) == dict(written.incar)
    assert str(without.kpoints) == str(written.kpoints)
    odd = inputs(defect(vacancy=None, substitution={5: "Nb"}))
    assert sum(odd.incar["MAGMOM"]) == pytest.approx(1)
    charged = defect()
    charged.set_charge(1)
    with pytest.raises(InputError, match="set PMG_VASP_PSP_DIR"):
        inputs(charged)


@pytest.mark.parametrize(
    ("symbols", "charge", "potcars", "odd"),
    [
        (["Mo", "S", "S"], 0, {"Mo": "Mo_sv"}, False),
        (["Nb", "S", "S"], 0, {"Nb": "Nb_sv"}, True),
        (["Nb", "S", "S"], 1, {"Nb": "Nb_sv"}, False),
        (["N", "N"], -1, {}, True),
        (["Er", "N"], 0, {"Er": "Er_3"}, False),  # valences of 9 and 5; by atomic numbers it would be odd
        (["Eu", "O"], 0, {"Eu": "Eu_2"}, False),
        (["Eu", "O"], 0, {"Eu": "Eu"}, True),
        (["Si", "H", "H"], 0, {"H": "H1.5"}, True),  # a number of electrons that half atoms make odd
    ],
)
def test_names_of_potcars_and_atomic_numbers_tell_whether_electrons_are_odd(symbols, charge, potcars, odd):
    assert odd_electrons(symbols, charge, potcars) is odd


def test_charge_with_a_dipole_correction_is_refused():
    marked = defect()
    marked.set_charge(1)
    with pytest.raises(InputError, match=r"LDIPOL in a cell of charge \+1: drop it"):
        inputs(marked, user_incar_settings={"LDIPOL": True})


def test_odd_electrons_start_on_the_defect_and_its_first_shell():
    written = inputs(defect(vacancy=None, substitution={5: "Nb"}))
    moments = np.array(written.incar["MAGMOM"])
    structure = written.poscar.structure
    nb = next(row for row, site in enumerate(structure) if site.specie.symbol == "Nb")
    shell = {row for row in range(48) if structure[row].specie.symbol == "S" and structure.get_distance(nb, row) < 2.6}
    assert set(np.flatnonzero(moments)) == {nb, *shell}
    assert len(shell) == 6
    assert moments.sum() == pytest.approx(1.0)


def test_preset_paper_is_high_spin():
    marked = defect(vacancy=16, substitution={5: "W"})
    moments = inputs(marked, spin="paper").incar["MAGMOM"]
    assert sorted(set(moments)) == [0.6, 5.0]
    assert moments.count(5.0) == 16


def test_moments_of_a_previous_calculation_do_not_leak():
    marked = defect()
    marked.add_site_property("magmom", [3.0] * 47)
    assert set(inputs(marked).incar["MAGMOM"]) == {0.0}
    marked.add_site_property("magmom", [None] * 47)
    assert set(inputs(marked).incar["MAGMOM"]) == {0.0}


@pytest.mark.parametrize(
    ("vacancy", "substitution", "expected"),
    [(16, {}, True), (None, {5: "W"}, False), (None, {16: "Se"}, True), (None, {}, False)],
)
def test_dipole_correction_is_for_asymmetric_slabs(vacancy, substitution, expected):
    assert is_asymmetric_slab(cell(vacancy, substitution)) is expected


def test_no_dipole_correction_in_bulk():
    assert not is_asymmetric_slab(Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.4]]))


def test_both_arms_share_every_input_but_the_positions():
    engine = resolve_engine("vasp")
    unrelaxed = host()
    unrelaxed.replace(5, "Nb")
    moved = unrelaxed.copy()
    moved.perturb(0.3)
    defects = np.array([host()[5].frac_coords])
    generator = engine.maker.input_set_generator
    first, second = (
        generator.get_input_set(engine.prepare(start, unrelaxed, defects), potcar_spec=True)
        for start in (unrelaxed, moved)
    )
    assert first.incar == second.incar
    assert "LDIPOL" not in first.incar
    assert str(first.kpoints) == str(second.kpoints)
    assert first["POTCAR.spec"] == second["POTCAR.spec"]
    assert first.poscar.structure.species == second.poscar.structure.species


@given(st.lists(st.sampled_from(["Mo", "S", "W"]), min_size=1, max_size=20))
def test_grouping_is_a_stable_permutation(symbols):
    marked = Structure(Lattice.cubic(20), symbols, np.random.default_rng(0).random((len(symbols), 3)))
    order = site_order(marked)
    grouped = group_species(marked)
    assert sorted(order) == list(range(len(symbols)))
    assert [grouped[k].specie.symbol for k in range(len(symbols))] == [symbols[row] for row in order]
    assert np.array_equal(grouped.frac_coords, marked.frac_coords[list(order)])
    runs = [s for k, s in enumerate(grouped.species) if k == 0 or s != grouped.species[k - 1]]
    assert len(runs) == len(set(symbols))
    assert site_order(grouped) == tuple(range(len(symbols)))


def test_the_poscar_maps_back_to_the_rows():
    marked = defect(16, {5: "W", 20: "Se"})
    written = inputs(marked).poscar.structure
    for row, site in zip(site_order(marked), written, strict=True):
        assert site.specie == marked[row].specie
        assert np.allclose(site.frac_coords, marked[row].frac_coords)


def test_rattle_is_the_same_in_both_arms():
    first, other = host(), host()
    other.perturb(0.1)
    steps = [rattled(c, 0.03, seed=7).cart_coords - c.cart_coords for c in (first, other)]
    assert np.allclose(*steps)
    assert np.allclose(np.linalg.norm(steps[0], axis=1), 0.03)
    assert not np.allclose(steps[0], rattled(first, 0.03, seed=8).cart_coords - first.cart_coords)
    written = inputs(defect(), rattle=0.02).poscar.structure
    assert np.linalg.norm(written.cart_coords - inputs(defect()).poscar.structure.cart_coords, axis=1) == pytest.approx(
        0.02
    )


@pytest.mark.parametrize(("settings", "message"), [({"rattle": 0.2}, "a rattle of 0.2 Å"), ({"spin": "up"}, "'up'")])
def test_bad_options_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        VaspDefectSetGenerator(**settings)


def test_a_missing_potcar_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {"PMG_VASP_PSP_DIR": str(tmp_path)})
    valence_electrons.cache_clear()
    with pytest.raises(InputError, match=r"no POTCAR Mo_sv of the set PBE_54: set PMG_VASP_PSP_DIR"):
        valence_electrons("Mo_sv", "PBE_54")


def test_the_maker_survives_the_round_trip_and_the_hash_sees_settings():
    maker = VaspDefectRelaxMaker()
    again = MontyDecoder().process_decoded(maker.as_dict())
    assert isinstance(again, Maker)
    base = resolve_engine("vasp").settings_hash
    assert resolve_engine(again).settings_hash == resolve_engine(VaspDefectRelaxMaker(name="x")).settings_hash == base
    for changed in ({"spin": "paper"}, {"rattle": 0.02}, {"user_incar_settings": {"ENCUT": 520}}):
        hashed = resolve_engine(VaspDefectRelaxMaker(input_set_generator=VaspDefectSetGenerator(**changed)))
        assert hashed.settings_hash != base
