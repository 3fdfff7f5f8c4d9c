"""Any ASE calculator is an engine, named by its class; class, parameters and version make its settings hash."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from flow_helpers import CU, RELAX, run, stored
from monty.json import MontyDecoder, MontyEncoder

from definet_flows import CalculatorRelaxMaker, InputError
from definet_flows.workflows.engines.base import resolve_engine

pytest_plugins = ["flow_fixtures"]


def emt(**changes):
    return CalculatorRelaxMaker(**{"calculator_class": EMT, "version": "1", "relax_kwargs": RELAX, **changes})


def identity(**changes):
    return resolve_engine(emt(**changes)).settings_hash


def test_class_parameters_and_version_are_the_engine(tmp_path):
    engine = resolve_engine(emt())
    assert (engine.name, engine.force_criterion, engine.knows_charge) == ("EMT", 0.02, False)
    assert identity(calculator_class="ase.calculators.emt.EMT", name="other") == engine.settings_hash
    others = [
        identity(version="2"),
        identity(calculator_kwargs={"asap_cutoff": True}),
        identity(calculator_class=LennardJones),
        identity(relax_kwargs={"fmax": 0.05}),
    ]
    assert len({engine.settings_hash, *others}) == 5
    potential = tmp_path / "mine.txt"
    potential.write_text("first")
    before = identity(calculator_kwargs={"file": str(potential)})
    potential.write_text("other")
    assert identity(calculator_kwargs={"file": str(potential)}) != before


def test_numbers_of_numpy_are_numbers():
    plain = identity(calculator_kwargs={"r": [1.5, 2.5]}, steps=9)
    assert identity(calculator_kwargs={"r": np.array([1.5, 2.5])}, steps=np.int64(9)) == plain


def test_it_crosses_between_processes():
    again = MontyDecoder().decode(json.dumps(emt(), cls=MontyEncoder))
    assert again == emt()
    assert resolve_engine(again).settings_hash == identity()


@pytest.mark.parametrize(
    ("changes", "saying"),
    [
        ({"version": ""}, "version is missing"),
        ({"calculator_class": ""}, "calculator_class is missing"),
        ({"calculator_class": type("Mine", (EMT,), {"__module__": "__main__"})}, "Mine lies in __main__"),
        ({"calculator_class": "ase.calculators.emt.Nothing"}, "'ase.calculators.emt.Nothing' cannot be imported"),
        ({"calculator_class": "no.such.module.EMT"}, "cannot be imported .* every worker imports"),
        ({"calculator_class": "EMT"}, "cannot be imported"),
        ({"calculator_class": "ase.Atoms"}, "no class of an ASE calculator"),
        ({"calculator_kwargs": {"kinds": {1, 2}}}, r"calculator_kwargs.kinds = \{1, 2\} is not JSON"),
        ({"calculator_kwargs": {"calculator": EMT}}, "calculator_kwargs.calculator = <class .* is not JSON"),
        ({"calculator_kwargs": {"inner": [{"call": np.sin}]}}, "calculator_kwargs.inner.call = .* is not JSON"),
    ],
)
def test_what_is_no_calculator_is_refused_in_one_line(changes, saying):
    with pytest.raises(InputError, match=saying) as refused:
        identity(**changes)
    assert "\n" not in str(refused.value)


def test_a_campaign_runs_with_it(maker, jobs):
    maker.defects, maker.max_defects, maker.engine, maker.control_fraction = ("v_Cu",), 1, emt(name="EMT relaxation"), 0
    run(maker.make(CU), jobs)
    records, _ = stored()
    assert {(record.engine, record.status, record.settings_hash) for record in records} == {("EMT", "done", identity())}
    assert all(record.ledger.converged and record.ledger.ionic_steps > 1 for record in records)
