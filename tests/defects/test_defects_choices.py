"""Names of defects, choices that cannot be met, and charges."""

import warnings
from collections import Counter

import pytest
from bulk_hosts import CDTE

from definet_flows.defects import (
    Choices,
    DefectKind,
    count_by_class,
    enumerate_configurations,
    guess_charges,
    place,
)
from definet_flows.defects.kinds import check_kinds
from definet_flows.errors import InputError
from definet_flows.hosts import make_host


@pytest.mark.parametrize("text", ["S_S", "v_Xx", "Qq_S", "v-S", "vS", "", "v_S@-1", "v_S@x", "v_s", "v_v"])
def test_names_that_are_no_defects(text):
    with pytest.raises(InputError, match="defect"):
        DefectKind.parse(text)


def test_lower_case_v_is_a_vacancy_upper_case_vanadium():
    assert DefectKind.parse("v_Mo").new is None
    assert DefectKind.parse("V_Mo").new == 23
    assert DefectKind.parse("v_S@12") == DefectKind(new=None, old=16, site=12)
    assert DefectKind.parse("Se_S").name == "Se_S"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"defects": ("v_Se",)}, "host MoS2 has no such element, only Mo, S"),
        ({"defects": ("v_S@999",)}, "does not exist"),
        ({"defects": ("v_S@0",)}, "holds Mo"),
        ({"defects": ("v_S", "v_Mo"), "max_on": {"S": 1}}, "nothing limits the number of v_Mo"),
    ],
)
def test_choices_that_the_host_cannot_meet(choices, message):
    host = make_host("MoS2", (2, 2, 1))
    with pytest.raises(InputError, match=message):
        list(enumerate_configurations(host, Choices(**choices)))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"defects": "v_S"}, "give a tuple"),
        ({"defects": ("v_S", "S_S")}, "itself"),
        ({"defects": ("v_S",), "max_onn": {"S": 1}}, "max_onn"),
        ({"defects": ("v_S",), "max_on": {"Se": 1}}, "max_on Se=1"),
        ({"defects": ("v_S",), "max_per_kind": {"Se_S": 1}}, "max_per_kind Se_S=1"),
        ({"defects": ("v_S",), "min_defects": 3, "max_defects": 2}, "below min_defects"),
        ({"defects": ("v_S",), "min_distance": 5, "max_distance": 2}, "above max_distance"),
        ({"defects": ("v_S",), "charges": {"v_Mo": (1,)}}, "for one of v_S"),
        ({"defects": ("v_S",), "charges": {"v_S": ()}}, "charges="),
        ({"defects": ("v_S",), "charges": ()}, "charges="),
    ],
)
def test_choices_that_contradict_themselves(choices, message):
    with pytest.raises(InputError, match=message) as error:
        Choices(**choices)
    assert "\n" not in str(error.value)


def test_place_names_sites_exactly():
    host = make_host("MoS2", (3, 3, 1))
    assert place(host, ["v_S@12", "W_Mo@0"]).name == "v_S+W_Mo"
    assert place(host, ["v_S@12"]) == place(host, ["v_S@20"])
    for wrong in (["v_S"], ["v_S@12", "Se_S@12"]):
        with pytest.raises(InputError, match="name one site of its own"):
            place(host, wrong)


# ------------------------------------------------------------------ charges


def test_charges():
    host = make_host("MoS2", (2, 2, 1))
    assert guess_charges(host, DefectKind.parse("v_S")) == (0, 1, 2)
    assert guess_charges(host, DefectKind.parse("v_Mo")) == (0, -1, -2, -3, -4)
    assert guess_charges(host, DefectKind.parse("Se_S")) == (0,)
    assert guess_charges(host, DefectKind.parse("Re_Mo"))[0] == 0
    given_ = Choices(defects=("v_S",), charges=(0, -1))
    assert [c.charge for c in enumerate_configurations(host, given_)] == [0, -1]
    per_kind = Choices(defects=("v_S", "W_Mo"), max_defects=2, min_defects=2, charges={"v_S": (0, 1)})
    pairs = Counter((c.name, c.charge) for c in enumerate_configurations(host, per_kind))
    assert {charge for (name, charge) in pairs if name == "v_S+v_S"} == {0, 1, 2}
    assert {charge for (name, charge) in pairs if name == "W_Mo+W_Mo"} == {0}
    cdte = make_host(CDTE, (1, 1, 1))
    antisites = {name: guess_charges(cdte, DefectKind.parse(name)) for name in ("Te_Cd", "Cd_Te", "v_Te", "Na_Cd")}
    assert antisites == {"Te_Cd": (0, -1, -2, -3, -4), "Cd_Te": (0, 1, 2, 3, 4), "v_Te": (0, 1, 2), "Na_Cd": (0, -1)}
    guessed = Choices(defects=("v_S", "v_Mo"), min_defects=2, max_defects=2, max_on={"Mo": 1}, charges="guess")
    charges = {c.charge for c in enumerate_configurations(host, guessed) if c.name == "v_Mo+v_S"}
    assert charges == set(range(-4, 3))  # v_S from 0 to 2, v_Mo from 0 to -4
    rows = count_by_class(host, guessed)
    total = sum(row.configurations * row.charge_states for row in rows)
    assert total == len(list(enumerate_configurations(host, guessed)))
    twice = Choices(defects=("v_S",), charges=(1, 1))
    assert [c.charge for c in enumerate_configurations(host, twice)] == [1]
    with pytest.raises(InputError, match="no oxidation states fit"):
        guess_charges(host.model_copy(update={"formula": "Mg2Na"}), DefectKind.parse("v_S"))
    ids = {c.id_in("host") for c in enumerate_configurations(host, given_)}
    assert len(ids) == 2


def test_vanadium_that_may_mean_a_vacancy_warns():
    host = make_host("MoS2", (3, 3, 1))
    with pytest.warns(UserWarning, match="V_S is vanadium on S: the vacancy is named v_S"):
        check_kinds(host, (DefectKind.parse("V_S"),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_kinds(host, tuple(map(DefectKind.parse, ("v_S", "W_Mo", "V_i"))))
