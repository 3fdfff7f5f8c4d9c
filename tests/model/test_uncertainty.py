"""The uncertainty: it recovers a law it is shown, reports on what it was not shown, and the gate listens to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definet_flows.defects import Choices, enumerate_configurations
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Card, load_checkpoint, save_checkpoint
from definet_flows.model.inference.predict import RawPrediction, predict
from definet_flows.model.inference.uncertainty import Calibration, Sample, defect_motion, rank_correlation
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.schemas import VACANCY
from definet_flows.starts.gate import FLAG_UNCERTAINTY, REJECT_UNCERTAINTY, judge

SITES = 60


def sample(seed: int, n: int = 80, *, scatter: float = 0.1) -> Sample:
    """Errors that follow 0.3 motion^1.2 (1 + vacancies per 100 sites)^0.5, within a scatter."""
    rng = np.random.default_rng(seed)
    markers = np.where(rng.random((n, SITES)) < 0.1 * rng.random((n, 1)), VACANCY, 0)
    moved = rng.normal(size=(n, SITES, 3)) * rng.lognormal(-3, 1, size=(n, 1, 1))
    atoms = markers != VACANCY
    motion = (np.linalg.norm(moved, axis=-1) * atoms).sum(1) / atoms.sum(1)
    errors = 0.3 * motion**1.2 * (1 + 100 * (~atoms).mean(1)) ** 0.5
    return Sample(moved, markers, errors * rng.lognormal(0, scatter, size=n))


def test_a_law_is_recovered_and_reported_on_what_was_not_fitted() -> None:
    found = Calibration.fit({"a": sample(1), "b": sample(2)})
    assert found.motion == pytest.approx(1.2, abs=0.05)
    assert found.vacancies == pytest.approx(0.5, abs=0.1)
    assert found.n == 80
    assert found.rank is not None
    assert found.rank > 0.95
    assert found.ratio == pytest.approx(1.0, abs=0.1)


def test_errors_that_follow_nothing_have_no_rank() -> None:
    shown = sample(3, 400)
    shuffled = Sample(shown.displacements, shown.markers, np.random.default_rng(0).permutation(shown.errors))
    rank = Calibration.fit({"a": shuffled}).rank
    assert rank is not None
    assert abs(rank) < 0.2


def test_sums_come_out_right_however_wide_the_scatter() -> None:
    shown = sample(4, 2000, scatter=0.8)
    estimates = Calibration.fit({"a": shown}).estimate(shown.displacements, shown.markers)
    assert estimates.mean() == pytest.approx(shown.errors.mean(), rel=0.1)


def test_nothing_to_rank_is_no_number() -> None:
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5.0)))
    assert np.isnan(rank_correlation(np.arange(2.0), np.arange(2.0)))


@given(shift=st.tuples(*[st.floats(-1, 1)] * 3), seed=st.integers(0, 100))
def test_what_defects_move_knows_no_shift_of_the_whole(shift: tuple[float, float, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    moved, pristine = rng.normal(size=(2, 7, 3)), rng.normal(size=(7, 3))
    markers = np.array([[0, 2, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 2, 2]])
    found = defect_motion(moved, pristine, markers)
    assert np.allclose(found, defect_motion(moved + np.array(shift), pristine, markers))
    assert np.allclose(found[0][markers[0] != VACANCY].mean(0), 0)


def test_predictions_state_it_and_the_gate_listens(tmp_path: Path) -> None:
    host = make_host("MoS2", (4, 4, 1))
    configuration = next(iter(enumerate_configurations(host, Choices(defects=("v_S",), max_defects=1))))
    calibration = Calibration(intercept=0.0, motion=1.0, vacancies=0.0, n=10)
    network = DefiNet(NetworkConfig(hidden=16, layers=1, gaussians=8, radial_extent=7, cutoff=5))
    checkpoint = save_checkpoint(
        tmp_path / "m.safetensors",
        network,
        load_checkpoint("definet-2dmd").card.model_copy(update={"config": network.config, "calibration": calibration}),
    )
    (one,) = predict(checkpoint, host, [configuration])
    assert one.displacements is not None
    size = np.linalg.norm(np.delete(one.displacements, configuration.edits[0].site, axis=0), axis=1).mean()
    assert one.uncertainty == pytest.approx(size + 1e-4, rel=1e-6)

    def verdict(uncertainty: float | None) -> tuple[str, str]:
        still = RawPrediction(np.zeros((host.n_sites, 3)), 0.0, "cpu", uncertainty)
        gate = judge(checkpoint, host, configuration, host.cartesian, still)
        return gate.verdict, gate.reason

    assert verdict(None)[0] == verdict(FLAG_UNCERTAINTY)[0] == "accepted"
    assert verdict(FLAG_UNCERTAINTY + 0.01) == ("flagged", "expected mean error 0.11 Å, above 0.1 Å")
    assert verdict(REJECT_UNCERTAINTY + 0.01) == ("rejected", "expected mean error 0.36 Å, above 0.35 Å")


def test_weights_without_a_calibration_state_none(tmp_path: Path) -> None:
    network = DefiNet(NetworkConfig(hidden=16, layers=1, gaussians=8, radial_extent=7, cutoff=5))
    checkpoint = save_checkpoint(tmp_path / "m.safetensors", network, Card(name="bare", config=network.config))
    host = make_host("MoS2", (4, 4, 1))
    configuration = next(iter(enumerate_configurations(host, Choices(defects=("v_S",), max_defects=1))))
    assert predict(checkpoint, host, [configuration])[0].uncertainty is None
