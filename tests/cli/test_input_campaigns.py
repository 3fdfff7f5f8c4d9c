"""What a campaign is made of: stacked layers, a host a little off its symmetry, charges guessed, kinds of values."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from definet_flows.cli.app import app
from definet_flows.defects import Choices, Sampling, enumerate_configurations, select_configurations
from definet_flows.defects.charges import guess_charges
from definet_flows.defects.kinds import DefectKind
from definet_flows.errors import InputError
from definet_flows.hosts import load_structure, make_host
from definet_flows.stores import open_store
from definet_flows.workflows import DefectFlowMaker
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker

# ------------------------------------------------------------------ stacked layers


def boron_nitride(c: float) -> Structure:
    sites = [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75], [2 / 3, 1 / 3, 0.25], [1 / 3, 2 / 3, 0.75]]
    return Structure(Lattice.hexagonal(2.51, c), ["B", "B", "N", "N"], sites)


def layer(c: float) -> Structure:
    unit = load_structure("MoS2")
    return Structure(Lattice.hexagonal(3.19, c), unit.species, unit.cart_coords, coords_are_cartesian=True)


def bilayer(c: float) -> Structure:
    one = load_structure("MoS2")
    coords = np.concatenate([one.cart_coords, one.cart_coords + np.array([0, 0, 6.3])])
    return Structure(Lattice.hexagonal(3.19, c), [*one.species, *one.species], coords, coords_are_cartesian=True)


@pytest.mark.parametrize("c", [6.66, 8.64, 9.5, 12.0])
def test_stacked_layers_are_a_bulk_crystal(c):
    host = make_host(boron_nitride(c), (3, 3, 1))
    assert (host.dimensionality, host.vacuum) == (3, None)


def test_a_single_layer_is_bulk_below_six_angstrom():
    assert make_host(layer(3.13 + 4.4), (2, 2, 1)).dimensionality == 3
    with pytest.raises(
        InputError, match=r"6\.87 Å of vacuum, less than 10 Å; .* for a bulk crystal give dimensionality 3"
    ):
        make_host(layer(10.0), (2, 2, 1))


def test_a_bilayer_in_vacuum_is_a_layer():
    assert make_host(bilayer(30.0), (2, 2, 1)).dimensionality == 2
    with pytest.raises(InputError, match="less than 10 Å"):
        make_host(bilayer(9.43 + 7.0), (2, 2, 1))


def test_the_dimensionality_may_be_given():
    assert make_host(layer(10.0), (2, 2, 1), dimensionality=3).dimensionality == 3
    given, found = make_host("MoS2", (2, 2, 1), dimensionality=2), make_host("MoS2", (2, 2, 1))
    assert given == found
    with pytest.raises(InputError, match="2 for a layer, 3 for a bulk crystal"):
        make_host("MoS2", (2, 2, 1), dimensionality=1)
    with pytest.raises(InputError, match=r"4\.32 Å of vacuum, less than 10 Å"):
        make_host(boron_nitride(8.64), (2, 2, 1), dimensionality=2)


# ------------------------------------------------------------------ symmetry


def off(shift: float) -> Structure:
    """MoS2 with one S atom off its place by some Å, along x."""
    unit = load_structure("MoS2")
    coords = unit.cart_coords.copy()
    coords[1, 0] += shift
    return Structure(unit.lattice, unit.species, coords, coords_are_cartesian=True)


CHOICES = Choices(defects=("v_Mo", "v_S"), max_defects=2)


def count(host) -> int:
    return sum(1 for _ in enumerate_configurations(host, CHOICES))


def test_a_host_off_its_symmetry_warns_with_both_groups():
    exact = make_host("MoS2", (4, 4, 1))
    assert "higher_symmetry" not in exact.provenance
    with pytest.warns(UserWarning, match=r"host MoS2 is \w+ within 0\.01 Å.* but P-6m2 within 0\.1 Å .* symprec"):
        host = make_host(off(0.04), (4, 4, 1))
    assert host.provenance["higher_symmetry"].startswith("P-6m2 within 0.1 Å")
    mended = make_host(off(0.04), (4, 4, 1), symprec=0.1)
    assert (count(mended), count(host) > 2 * count(exact)) == (count(exact), True)


@pytest.mark.parametrize("symprec", [0, -1.0, float("nan"), 2.0])
def test_a_tolerance_that_is_none_is_refused(symprec):
    with pytest.raises(InputError, match="symprec"):
        make_host("MoS2", (2, 2, 1), symprec=symprec)


def definet(*words: str):
    return CliRunner().invoke(app, words)


@pytest.mark.filterwarnings("default:host MoS2 is")
def test_enumerate_and_check_print_the_space_group(tmp_path):
    path = tmp_path / "POSCAR"
    off(0.04).to(filename=str(path), fmt="poscar")
    words = [str(path), "--supercell", "3", "3", "1", "--defect", "v_S"]
    plain = definet("enumerate", *words)
    assert (plain.exit_code, "within 0.01 Å" in plain.stdout, "but P-6m2 within 0.1 Å" in plain.stderr) == (
        0,
        True,
        True,
    )
    loose = definet("enumerate", *words, "--symprec", "0.1")
    assert "space group: P-6m2 within 0.1 Å" in loose.stdout
    assert (int(plain.stdout.split()[-1]), int(loose.stdout.split()[-1])) == (2, 1)
    checked = definet("check", *words, "--engine", "sevennet", "--store", str(tmp_path / "r.jsonl"))
    assert "symmetry" in checked.stdout
    assert "P-6m2 within 0.1" in " ".join(checked.stdout.split())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        campaign = DefectFlowMaker(supercell=(3, 3, 1), defects=("v_S",), engine="sevennet", symprec=0.1).campaign(path)
    assert len(campaign.ids) == 1


# ------------------------------------------------------------------ charges


def host_named(formula: str):
    return make_host("MoS2", (2, 2, 1)).model_copy(update={"formula": formula})


@pytest.mark.parametrize("formula", ["MoS2", "MoWS2Se2", "MoWSe2S2", "Mo3WS8"])
def test_elements_of_one_column_are_guessed_alike(formula):
    assert guess_charges(host_named(formula), DefectKind.parse("v_Mo")) == (0, -1, -2, -3, -4)


def test_known_guesses_stay():
    assert guess_charges(host_named("InSe"), DefectKind.parse("v_In")) == (0, -1, -2)
    assert guess_charges(host_named("CuFeO2"), DefectKind.parse("v_Cu")) == (0, -1)
    assert guess_charges(host_named("BN"), DefectKind.parse("v_N")) == (0, 1, 2, 3)


def test_an_ambiguous_guess_is_refused_by_name():
    with pytest.raises(InputError, match=r"MoNbS4: its oxidation states are ambiguous \(.*Mo\+4 Nb\+4"):
        guess_charges(host_named("MoNbS4"), DefectKind.parse("v_Mo"))


# ------------------------------------------------------------------ kinds of values


def test_numbers_of_numpy_in_settings_hash_as_pythons():
    def engine(*numbers):
        maker = VaspDefectRelaxMaker()
        names = ("ENCUT", "EDIFF", "LREAL", "MAGMOM")
        maker.input_set_generator.user_incar_settings = dict(zip(names, numbers, strict=True))
        return resolve_engine(maker)

    found = engine(np.int64(400), np.float64(1e-5), np.bool_(False), np.array([1, 2]))
    assert found.settings_hash == engine(400, 1e-5, False, [1, 2]).settings_hash
    assert found.maker.input_set_generator.user_incar_settings["MAGMOM"] == [1, 2]


def test_a_store_may_be_a_path(tmp_path):
    path = tmp_path / "records.sqlite"
    with open_store(path) as records:
        assert records.location == str(path)
    flows = [
        DefectFlowMaker(defects=("v_S",), engine="sevennet", supercell=(3, 3, 1), store=one)
        for one in (path, str(path))
    ]
    assert flows[0].store == flows[1].store == str(path)
    flows[0].make("MoS2")


@pytest.mark.parametrize("sampling", [None, Sampling(concentrations=(1.0,), per_concentration=1)])
def test_a_configuration_without_atoms_is_refused(sampling):
    host = make_host(bulk("Cu", "fcc", 3.6), (1, 1, 1))
    with pytest.raises(InputError, match="v_Cu leaves no atom of host Cu with 1 sites: take a larger supercell"):
        list(select_configurations(host, Choices(defects=("v_Cu",)), sampling))
