"""Fixture that puts the stand-in for VASP on PATH."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from vasp_helpers import Standin

from definet_flows.workflows.engines.vasp.inputs import valence_electrons


@pytest.fixture
def standin(tmp_path, monkeypatch):
    made = Standin(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin), prepend=":")
    monkeypatch.setenv("VASP_LOG", str(made.log))
    monkeypatch.setenv("VASP_FAILURES", str(made.plan))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("pymatgen.io.vasp.inputs.SETTINGS", {"PMG_VASP_PSP_DIR": str(made.potcars)})
    monkeypatch.setattr("pymatgen.core.SETTINGS", {"PMG_VASP_PSP_DIR": str(made.potcars)})
    # custodian looks every 10 s whether VASP has ended
    monkeypatch.setattr("custodian.custodian.time", SimpleNamespace(sleep=lambda _: time.sleep(0.02)))
    valence_electrons.cache_clear()
    yield made
    valence_electrons.cache_clear()
