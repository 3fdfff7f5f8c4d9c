"""Documents of earlier versions name the modules that their classes were in: these are found for ever."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from inspect import isclass

import pytest
from monty.json import MontyDecoder

from definet_flows import DefectFlowMaker, PotentialRelaxMaker, VaspDefectRelaxMaker
from definet_flows._moved import MOVED


@pytest.mark.parametrize("former", MOVED)
def test_a_former_module_is_the_module_of_today(former):
    module = import_module(former)
    assert module is import_module(MOVED[former])
    assert module.__spec__.name == module.__name__ == MOVED[former]
    own = [value for value in vars(module).values() if isclass(value) and value.__module__.startswith("definet_flows")]
    assert all(import_module(value.__module__) is not None for value in own)


@pytest.mark.parametrize(
    ("maker", "former"),
    [
        (VaspDefectRelaxMaker(), "definet_flows.workflows.vasp"),
        (PotentialRelaxMaker(), "definet_flows.workflows.forcefield"),
        (DefectFlowMaker(engine="sevennet"), "definet_flows.workflows.flow"),
    ],
)
def test_a_maker_in_an_old_queue_is_read(maker, former):
    document = {**maker.as_dict(), "@module": former}
    assert MontyDecoder().process_decoded(document).as_dict() == maker.as_dict()


def test_the_package_is_imported_without_its_rooms():
    code = "import sys, definet_flows; print(sorted(name for name in sys.modules if name.startswith('definet_flows')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['definet_flows', 'definet_flows._lazy', 'definet_flows._moved']"
