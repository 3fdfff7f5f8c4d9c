import pytest
from bulk_hosts import CASES, CDTE, Y2TI2S2O5
from pymatgen.analysis.defects.core import Adsorbate, DefectComplex, Interstitial, Substitution, Vacancy
from pymatgen.analysis.defects.generators import AntiSiteGenerator, VacancyGenerator, VoronoiInterstitialGenerator
from pymatgen.core import PeriodicSite, Structure

from definet_flows.defects import (
    Choices,
    canonical,
    doped_name,
    enumerate_configurations,
    from_doped_name,
    from_pymatgen,
    place,
    to_pymatgen,
)
from definet_flows.errors import InputError
from definet_flows.hosts import make_host, to_structure
from definet_flows.schemas import Configuration


@pytest.mark.parametrize("case", CASES)
def test_singles_go_to_objects_and_names_and_back(case):
    name, supercell, kinds = CASES[case]
    host = make_host(name, supercell)
    names = []
    for configuration in enumerate_configurations(host, Choices(defects=kinds, charges=(-1, 0, 2))):
        assert from_pymatgen(host, to_pymatgen(host, configuration)) == configuration
        names.append(doped_name(host, configuration))
        assert from_doped_name(host, names[-1]) == configuration
    assert len(set(names)) == len(names)


def test_objects_are_of_the_right_class_and_build_the_same_atoms():
    host = make_host("MoS2", (3, 3, 1))
    for name, kind in (("v_S@12", Vacancy), ("W_Mo@0", Substitution), ("Li_i@0", Interstitial)):
        configuration = place(host, [name], charge=-1)
        defect = to_pymatgen(host, configuration)
        assert type(defect) is kind
        assert (defect.name, defect.multiplicity) == (configuration.name, configuration.multiplicity)
        assert defect.get_charge_states() == [-1]
    with pytest.raises(InputError, match="nothing to convert"):
        to_pymatgen(host, Configuration(edits=()))


def test_complexes_go_there_and_back():
    host = make_host("MoS2", (3, 3, 1))
    kinds = ("v_S", "W_Mo", "Li_i")
    choices = Choices(defects=kinds, min_defects=2, max_defects=2, max_distance=3.5, charges=(1,))
    found = list(enumerate_configurations(host, choices))
    assert len({c.name for c in found}) > 3
    for configuration in found:
        made = to_pymatgen(host, configuration)
        assert isinstance(made, DefectComplex)
        back = from_pymatgen(host, made, charge=1)
        assert back.id_in(host.hash) == configuration.id_in(host.hash)
        assert back.multiplicity == configuration.multiplicity
    assert from_pymatgen(host, made).charge == 0


def test_defects_made_elsewhere_in_the_unit_cell():
    host = make_host(CDTE, (2, 2, 2))
    singles = set(enumerate_configurations(host, Choices(defects=("v_Cd", "v_Te", "Te_Cd", "Cd_Te", "Li_i"))))
    made = [
        *VacancyGenerator().generate(CDTE, oxi_state=0),
        *AntiSiteGenerator().generate(CDTE, oxi_state=0),
        *VoronoiInterstitialGenerator().generate(CDTE, ["Li"], oxi_state=0),
    ]
    assert {from_pymatgen(host, defect).id_in("") for defect in made} == {c.id_in("") for c in singles}
    site = PeriodicSite("Li", [0.5, 0.5, 0.5], CDTE.lattice)
    assert from_pymatgen(host, Adsorbate(CDTE, site, oxi_state=0)).name == "Li_i"


def test_objects_of_another_host_are_refused():
    host = make_host(CDTE, (2, 2, 2))
    shifted = Structure(CDTE.lattice, CDTE.species, CDTE.frac_coords + 0.1)
    with pytest.raises(InputError, match="is not a cell of host CdTe"):
        from_pymatgen(host, Vacancy(shifted, shifted[0], oxi_state=0, multiplicity=1))
    cell = to_structure(host)
    part = Vacancy(cell, cell[0], oxi_state=0, multiplicity=1)
    with pytest.raises(InputError, match="on the same site"):
        from_pymatgen(host, DefectComplex([part, part]))


def test_names_say_no_more_than_is_needed():
    cdte = make_host(CDTE, (2, 2, 2))
    assert doped_name(cdte, canonical(cdte, place(cdte, ["v_Cd@0"], charge=-2))) == "v_Cd_-2"
    oxide = make_host(Y2TI2S2O5, (3, 3, 1))
    oxygens = enumerate_configurations(oxide, Choices(defects=("v_O",), charges=(0,)))
    assert sorted(doped_name(oxide, c) for c in oxygens) == ["v_O_C2v_0", "v_O_D4h_0"]
    cages = enumerate_configurations(cdte, Choices(defects=("Cd_i",), charges=(2,)))
    assert {doped_name(cdte, c) for c in cages} == {"Cd_i_Td_Cd2.81_+2", "Cd_i_Td_Te2.81_+2", "Cd_i_C3v_+2"}
    assert from_doped_name(cdte, "v_Cd") == place(cdte, ["v_Cd@0"])
    assert from_doped_name(cdte, "v_Cd_Td_Te2.81_-1") == place(cdte, ["v_Cd@0"], charge=-1)  # more than is needed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v-Cd", "is not a name such as"),
        ("v_Se_0", "no such element"),
        ("v_Cd_C2v_0", "fits 0 inequivalent sites"),
        ("Li_i_Td_0", r"fits 2 inequivalent sites .* Li_i_Td_Te2\.81_0"),
        ("v_Cd_x_y", "fits 0"),
    ],
)
def test_names_that_mean_nothing_or_too_much(name, message):
    with pytest.raises(InputError, match=message):
        from_doped_name(make_host(CDTE, (2, 2, 2)), name)


def test_complexes_have_no_doped_name():
    host = make_host("MoS2", (3, 3, 1))
    with pytest.raises(InputError, match="single defects"):
        doped_name(host, place(host, ["v_S@12", "v_S@13"]))
