from collections import Counter

import pytest

from definet_flows.defects import (
    Choices,
    canonical,
    count_by_class,
    enumerate_configurations,
    preset,
    sample_concentration,
)
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.schemas import content_hash

RECIPES = {  # sites, numbers of defects, cap of each kind: the table of the paper
    "MoS2": (192, [4, 9, 14, 19, 24], {"v_Mo": 4, "W_Mo": 4, "v_S": 8, "Se_S": 8}),
    "WSe2": (192, [4, 9, 14, 19, 24], {"v_W": 4, "Mo_W": 4, "v_Se": 8, "S_Se": 8}),
    "BN": (128, [3, 6, 9, 12, 16], dict.fromkeys(["v_B", "C_B", "v_N", "C_N"], 4)),
    "GaSe": (144, [3, 7, 10, 14, 18], dict.fromkeys(["v_Ga", "In_Ga", "v_Se", "S_Se"], 5)),
    "InSe": (144, [3, 7, 10, 14, 18], dict.fromkeys(["v_In", "Ga_In", "v_Se", "S_Se"], 5)),
    "P": (144, [3, 7, 10, 14, 18], {"v_P": 9, "N_P": 9}),
}


@pytest.mark.filterwarnings("ignore:2D host InSe has 14.63 Å")  # c = 20 Å is the published cell
@pytest.mark.parametrize("name", RECIPES)
def test_high_density_recipes(name):
    sites, sizes, caps = RECIPES[name]
    recipe = preset("2dmd-high", name, seed=1)
    host = make_host(name, recipe.supercell)
    assert host.n_sites == sites
    found = list(recipe.configurations(host))
    assert [len(c.edits) for c in found] == [n for n in sizes for _ in range(100)]
    assert len(set(found)) == 500
    for configuration in found:
        kinds = Counter(edit.name for edit in configuration.edits)
        assert all(kinds[kind] <= caps[kind] for kind in kinds)
    assert all(canonical(host, c) == c for c in found[::97])


def test_low_density_recipe_is_the_enumeration():
    recipe = preset("2dmd-low", "WSe2")
    assert recipe.supercell == (8, 8, 1)
    host = make_host("WSe2", (3, 3, 1))
    expected = sum(row.configurations for row in count_by_class(host, recipe.choices))
    assert len(list(recipe.configurations(host))) == expected


def test_same_seed_same_configurations_on_every_machine():
    host = make_host("MoS2", (4, 4, 1))
    choices = Choices(defects=("v_S", "W_Mo"), max_per_kind={"v_S": 3, "W_Mo": 2})
    drawn = list(sample_concentration(host, choices, (0.05, 0.1), 5, seed=7))
    assert drawn == list(sample_concentration(host, choices, (0.05, 0.1), 5, seed=7))
    assert drawn[5:] == list(sample_concentration(host, choices, (0.1,), 5, seed=7))
    assert drawn != list(sample_concentration(host, choices, (0.05, 0.1), 5, seed=8))
    sites = [[e.site for e in c.edits] for c in drawn]
    assert content_hash(sites) == "967733945ed0392178f3a56d4f0e36e6"  # recorded once


def test_a_small_space_is_exhausted_without_duplicates_then_refused():
    host = make_host("MoS2", (2, 2, 1))
    choices = Choices(defects=("v_S",))
    all_pairs = set(enumerate_configurations(host, Choices(defects=("v_S",), min_defects=2, max_defects=2)))
    drawn = set(sample_concentration(host, choices, (2 / 12,), len(all_pairs)))
    assert drawn == all_pairs
    with pytest.raises(InputError, match=f"only {len(all_pairs)} of 50"):
        list(sample_concentration(host, choices, (2 / 12,), 50))


def test_limits_hold():
    host = make_host("MoS2", (6, 6, 1))
    choices = Choices(defects=("v_S", "v_Mo"), max_on={"Mo": 2}, min_distance=4.0)
    for configuration in sample_concentration(host, choices, (0.06,), 20):
        assert sum(edit.old == 42 for edit in configuration.edits) <= 2
        exact = Choices(defects=("v_S", "v_Mo"), max_defects=6, min_distance=4.0)
        assert exact.min_distance == 4.0
        assert len(configuration.edits) == 6


@pytest.mark.parametrize("concentration", [0.0, -0.1, 1.5, 0.001, float("nan")])
def test_concentrations_that_make_no_sense(concentration):
    host = make_host("MoS2", (2, 2, 1))
    with pytest.raises(InputError, match="concentration"):
        list(sample_concentration(host, Choices(defects=("v_S",)), (concentration,), 1))


def test_caps_below_the_concentration_are_refused():
    host = make_host("MoS2", (4, 4, 1))
    choices = Choices(defects=("v_S",), max_per_kind={"v_S": 2})
    with pytest.raises(InputError, match="only 0 of 3"):
        list(sample_concentration(host, choices, (0.1,), 3))


def test_unknown_presets():
    with pytest.raises(InputError, match="2dmd-low, 2dmd-high"):
        preset("2dmd", "MoS2")
    with pytest.raises(InputError, match="only for MoS2, WSe2"):
        preset("2dmd-low", "BN")
