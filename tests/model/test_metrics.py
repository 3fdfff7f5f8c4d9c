"""Metrics against sums by hand, baselines against fields that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definet_flows.defects import site_operations
from definet_flows.hosts import make_host
from definet_flows.model.data.archive import PairSet
from definet_flows.model.training.baselines import Translations, dummy, fit_additive, fit_host
from definet_flows.model.training.metrics import join, score, site_distances, summarize
from definet_flows.schemas import Host

MOS2 = make_host("MoS2", (6, 6, 1))


def square(n: int = 8) -> Host:
    """n x n sites, 3 Å apart in a plane."""
    a = 3.0 * n
    frac = tuple((i / n, j / n, 0.5) for i in range(n) for j in range(n))
    unit = ((n, 0, 0), (0, n, 0), (0, 0, 1))
    return Host(
        formula="X", lattice=((a, 0, 0), (0, a, 0), (0, 0, 24)), numbers=(6,) * n * n, frac_coords=frac,
        matrix=unit, dimensionality=2, vacuum=24.0,
    )  # fmt: skip


GRID = square()


def markers_of(**sites: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(GRID.n_sites, dtype=np.uint8)
    out[list(sites.get("substituted", ()))] = 1
    out[list(sites.get("vacant", ()))] = 2
    return out


def one(markers: np.ndarray, truth: np.ndarray, predicted: np.ndarray):
    return summarize(score(GRID, markers[None], truth[None], predicted[None]))


# ------------------------------------------------------------------ metrics


def test_placeholders_are_defect_sites_but_not_scored():
    markers = markers_of(vacant=(0,))
    truth, predicted = np.zeros((2, 64, 3))
    predicted[0] = 1e6  # the placeholder
    predicted[1] = [0.3, 0, 0]  # 3 Å from it
    metrics = one(markers, truth, predicted)
    assert metrics.mae == pytest.approx(0.1 / 63)
    assert metrics.A3 is None  # strictly less than 3 Å: no atom
    assert pytest.approx(0.1 / 4) == metrics.A4
    assert pytest.approx(0.1 / 8) == metrics.A5  # the diagonal, 4.24 Å
    assert metrics.A6 == metrics.A5  # 6 Å is not less than 6
    assert metrics.max_error_median == metrics.max_error_p95 == pytest.approx(0.3)


def test_a_substituted_atom_is_scored_at_distance_zero():
    truth, predicted = np.zeros((2, 64, 3))
    predicted[10] = 0.6
    metrics = one(markers_of(substituted=(10,)), truth, predicted)
    assert pytest.approx(0.6) == metrics.A3
    assert pytest.approx(0.6 / 5) == metrics.A4


def test_near_means_near_across_the_boundary():
    truth, predicted = np.zeros((2, 64, 3))
    predicted[7] = 1.0  # the corner's neighbour through the boundary
    assert pytest.approx(1 / 4) == one(markers_of(vacant=(0,)), truth, predicted).A4


def test_metrics_are_means_over_structures():
    markers = np.stack([markers_of(vacant=(0,)), markers_of(substituted=(9, 10)), markers_of(substituted=(0, 36))])
    truth, predicted = np.zeros((2, 3, 64, 3))
    truth[0, 5] = [0, 2.0, 0]  # a hop that is not found
    truth[1, 5] = predicted[1, 5] = [0, 1.5, 0]  # one that is, exactly
    truth[2, 5], predicted[2, 5] = [0, 0, 1.0], [0, 0, 3.0]  # 1 Å is not a hop
    metrics = summarize(score(GRID, markers, truth, predicted))
    by_hand = np.array([2 / 3 / 63, 0, 2 / 3 / 64])
    assert metrics.n == 3
    assert metrics.mae == pytest.approx(by_hand.mean())
    assert metrics.median == pytest.approx(np.median(by_hand))
    assert metrics.max_error_median == pytest.approx(2.0)
    assert metrics.error_over_displacement == pytest.approx((2 + 0 + 2) / (2 + 1.5 + 1))
    assert (metrics.hops, metrics.hop_recall) == (2, 0.5)
    bins = {name: (b.n, pytest.approx(b.mae)) for name, b in metrics.by_pair_distance.items()}
    assert bins == {"single": (1, by_hand[0]), "3-4": (1, 0.0), "> 9": (1, by_hand[2])}


def test_the_pair_distance_is_that_of_the_nearest_pair():
    truth = np.zeros((64, 3))
    expected = {(0, 1, 36): "3-4", (0, 9): "4-6", (0, 6): "6-9"}  # 3 Å; 4.24 Å; 6 Å over the boundary
    for sites, name in expected.items():
        assert list(one(markers_of(vacant=sites), truth, truth).by_pair_distance) == [name]
    pristine = one(markers_of(), truth, truth)
    assert pristine.mae == 0
    assert pristine.A6 is pristine.hop_recall is pristine.error_over_displacement is None


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_metric_is_as_symmetric_as_the_host(seed):
    rng = np.random.default_rng(seed)
    operations = site_operations(MOS2)
    markers = rng.choice([0, 0, 0, 0, 0, 1, 2], size=(2, MOS2.n_sites))
    truth, predicted = rng.normal(0, 0.4, (2, 2, MOS2.n_sites, 3))
    g = int(rng.integers(len(operations)))
    permutation, rotation = operations.permutations[g], operations.rotations[g]
    moved = [np.empty_like(a) for a in (markers, truth, predicted)]
    moved[0][:, permutation] = markers
    for out, field in zip(moved[1:], (truth, predicted), strict=True):
        out[:, permutation] = field @ rotation.T
    first, second = score(MOS2, markers, truth, predicted), score(MOS2, *moved)
    for name in ("largest", "error", "displacement", "pair_distance", "hops", "hops_found"):
        assert np.allclose(getattr(first, name), getattr(second, name), atol=1e-6), name
    flat = np.array([[1, 0, 0], [0, 1, 0]]) @ rotation  # components mix under a rotation, except by these
    if np.allclose(np.abs(flat), [[1, 0, 0], [0, 1, 0]]):
        assert np.allclose(first.near, second.near, equal_nan=True)


def test_joined_scores_are_those_of_one_set():
    rng = np.random.default_rng(3)
    markers = np.stack([markers_of(vacant=(k,), substituted=(k + 20,)) for k in range(5)])
    truth, predicted = rng.normal(size=(2, 5, 64, 3))
    whole = score(GRID, markers, truth, predicted)
    parts = [score(GRID, markers[k], truth[k], predicted[k]) for k in (slice(0, 2), slice(2, 5))]
    assert summarize(join(parts)) == summarize(whole)


def test_predictions_that_are_not_numbers_have_no_mean():
    truth = np.zeros((64, 3))
    assert one(markers_of(vacant=(0,)), truth, truth + np.nan).mae is None


# ------------------------------------------------------------------ baselines


def random_pairs(host: Host, n: int, seed: int, density: float = 0.06) -> PairSet:
    """Pairs whose displacements are a sum of pair forces and a breathing of the sulphur planes."""
    rng = np.random.default_rng(seed)
    numbers = np.tile(np.array(host.numbers), (n, 1))
    markers = np.where(rng.random(numbers.shape) < density, rng.integers(1, 3, numbers.shape), 0)
    numbers[markers == 1] = np.where(numbers[markers == 1] == 42, 74, 34)
    relaxed = np.stack([_superposed(host, *row) for row in zip(numbers, markers, strict=True)])
    relaxed[markers == 2] = 0
    return PairSet(
        name="made up",
        host=host,
        ids=tuple(map(str, range(n))),
        splits=("train",) * n,
        numbers=numbers.astype(np.uint8),
        markers=markers.astype(np.uint8),
        unrelaxed=np.zeros((n, host.n_sites, 3), np.float32),
        relaxed=relaxed.astype(np.float32),
        malformed=(),
    )


def _superposed(host: Host, numbers: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """Move along the line to each defect, by an amount that depends on its kind and falls off within 5 Å."""
    frac, cell = np.array(host.frac_coords), np.array(host.lattice)
    height = host.cartesian[:, 2] - host.cartesian[:, 2].mean()
    moved = 0.1 * np.sign(np.round(height, 3))[:, None] * [0, 0, 1]
    for site in np.flatnonzero(markers):
        to = frac - frac[site]
        to = (to - np.rint(to)) @ cell
        distance = np.linalg.norm(to, axis=1, keepdims=True)
        strength = 0.2 if markers[site] == 2 else numbers[site] / 500
        moved = moved - strength * to * np.clip(1 - distance / 5, 0, None) ** 2
    return moved


def test_additive_is_exact_where_fields_add_up():
    train, fresh = random_pairs(MOS2, 60, seed=0), random_pairs(MOS2, 5, seed=1, density=0.15)
    predicted = fit_additive(train, train.split("train"))(fresh.numbers, fresh.markers)
    atoms = fresh.markers != 2
    assert np.abs(predicted - fresh.relaxed)[atoms].max() < 1e-3
    assert np.abs(fresh.relaxed)[atoms].max() > 0.2


def test_additive_turns_with_the_configuration():
    pairs, operations = random_pairs(MOS2, 10, seed=4), site_operations(MOS2)
    noise = np.random.default_rng(5).normal(0, 0.1, pairs.relaxed.shape).astype(np.float32)
    noisy = PairSet(**{**pairs.__dict__, "relaxed": pairs.relaxed + noise})
    predict = fit_additive(noisy, noisy.split("train"))
    expected = predict(pairs.numbers, pairs.markers)
    for g in (1, 100, 333):
        back = np.argsort(operations.permutations[g])
        turned = predict(pairs.numbers[:, back], pairs.markers[:, back])
        assert np.allclose(turned, (expected @ operations.rotations[g].T)[:, back], atol=1e-9)


def test_additive_knows_nothing_of_kinds_it_never_saw():
    train = random_pairs(MOS2, 30, seed=0)
    predict = fit_additive(train, train.split("train"))
    numbers, markers = np.array([MOS2.numbers]), np.zeros((1, MOS2.n_sites), dtype=int)
    pristine = predict(numbers, markers)
    numbers[0, 50], markers[0, 50] = 52, 1  # tellurium
    assert np.array_equal(predict(numbers, markers), pristine)
    assert np.abs(pristine[0, 36:, 2]).min() > 0.09  # the host's own breathing


def test_the_hosts_own_motion_is_found_far_from_defects():
    pairs = random_pairs(MOS2, 20, seed=2, density=0.01)
    predicted = fit_host(pairs, pairs.split("train"))(pairs.numbers, pairs.markers)
    height = MOS2.cartesian[:, 2] - MOS2.cartesian[:, 2].mean()
    assert np.allclose(predicted, 0.1 * np.sign(np.round(height, 3))[:, None] * [0, 0, 1], atol=1e-6)
    crowded = random_pairs(MOS2, 3, seed=3, density=0.9)
    assert not fit_host(crowded, crowded.split("train"))(crowded.numbers, crowded.markers).any()
    assert not dummy(pairs.numbers, pairs.markers).any()


@pytest.mark.parametrize(("host", "sublattices"), [(MOS2, 3), (make_host("P", (3, 4, 1)), 4), (GRID, 1)])
def test_sites_are_sublattices_and_translations(host, sublattices):
    translations = Translations.of(host)
    cells = host.n_sites // sublattices
    assert translations.sites.shape == (sublattices, cells)
    assert np.array_equal(np.sort(translations.sites, axis=None), np.arange(host.n_sites))
    cell, frac = np.array(host.lattice), np.array(host.frac_coords)
    steps = frac[translations.sites] - frac[translations.sites[:, :1]]  # from a sublattice's first site
    assert np.abs((steps - steps[:1] + 0.5) % 1 - 0.5).max() < 1e-6  # the same in all of them
    apart = steps[0][:, None] - steps[0][None] - steps[0][translations.difference]
    assert np.abs((apart - np.rint(apart)) @ cell).max() < 1e-5
    assert np.allclose(site_distances(host), site_distances(host).T, atol=1e-6)
