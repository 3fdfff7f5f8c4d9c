"""Registered models, their trials and their weights, as tests of the registry and of its commands need them."""

from __future__ import annotations

from store_fixtures import SETTINGS

from definet_flows.schemas.models import HostTrial, Model, ModelRef, Trial
from definet_flows.stores import Records
from definet_flows.stores.learning.registry import register

SHIPPED = ModelRef(name="definet-2dmd", sha256="5" * 64)
BYTES = bytes(range(256)) * 40


def model(name: str, settings: str = SETTINGS) -> Model:
    return Model(
        id=name,
        settings_hash=settings,
        engine="sevennet",
        sha256="",
        size=0,
        recipe={},
        hosts=("MoS2",),
        data_hash="d",
        configurations=200,
        counts=(),
        refused=0,
        parent=SHIPPED,
    )


def trial(against: ModelRef = SHIPPED, *, passed: bool = True) -> Trial:
    host = HostTrial(host="MoS2", n=20, champion=0.02, challenger=0.01, nothing=0.05, p=0.001)
    reason = "better" if passed else "not better"
    return Trial(
        champion=against, held_out="h", hosts=(host,), steps=None, passed=passed, reason=reason, at="2026-01-01"
    )


def added(records: Records, name: str) -> Model:
    return register(records, model(name), BYTES + name.encode())


# ------------------------------------------------------------------ weights
