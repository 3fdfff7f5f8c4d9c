"""Training sets: what is learned from, what is refused and why, splits, and labels that lead back to the ends."""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np
import pytest
import torch
from store_fixtures import SETTINGS, host, record, site_map

from definet_flows.defects import Choices, enumerate_configurations, nodes, place, site_operations
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Card, load_checkpoint, save_checkpoint
from definet_flows.model.inference.predict import predict
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.model.training.finetune import ANCHORS, SEEN, fine_tuning, frame_of, framed, replayed_hosts
from definet_flows.schemas import Configuration, DefectRecord, Edit, Supercell
from definet_flows.stores import open_store
from definet_flows.stores.learning.splits import SHARES, split_of
from definet_flows.workflows.learning.label_sets import pair_sets, read_training_set


@pytest.fixture
def records(tmp_path):
    with open_store(str(tmp_path / "records.sqlite")) as opened:
        yield opened


def shifts(seed=0, size=0.05):
    return np.random.default_rng(seed).normal(0, size, (27, 3))


def read(records):
    return read_training_set(records, SETTINGS)


def learned(records):
    return {entry.record_id for entry in read(records).entries}


def relaxed_base(of: DefectRecord, base) -> DefectRecord:
    """The same relaxation on a host that was relaxed before."""
    by = base - host().cartesian
    sites = of.sites.model_copy(
        update={"unrelaxed": of.sites.unrelaxed + by, "relaxed": of.sites.relaxed + by, "predicted": None}
    )
    return of.model_copy(update={"sites": sites})


# ------------------------------------------------------------------ labels


class Oracle(torch.nn.Module):
    """A network that returns the labels of a set exactly."""

    def __init__(self, pairs, config):
        super().__init__()
        self.config = config
        self.parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.known = {
            (z.tobytes(), m.tobytes()): d
            for z, m, d in zip(pairs.numbers.astype(int), pairs.markers.astype(int), pairs.relaxed, strict=True)
        }

    def of(self, _formula):
        return self

    def forward(self, numbers, markers, positions, *_):
        rows = zip(numbers.numpy(), markers.numpy(), strict=True)
        return positions + torch.as_tensor(np.stack([self.known[z.tobytes(), m.tobytes()] for z, m in rows])).double()


@pytest.fixture
def parent(tmp_path):
    torch.manual_seed(1)
    config = NetworkConfig(hidden=8, layers=2, gaussians=16)
    return save_checkpoint(tmp_path / "parent.safetensors", DefiNet(config), Card(name="parent", config=config))


@pytest.mark.parametrize("scratch", [False, True])
def test_a_network_that_returns_the_labels_predicts_the_relaxed_structures(records, parent, scratch):
    base = host().cartesian + np.random.default_rng(5).normal(0, 0.02, (27, 3))
    ends = [
        relaxed_base(record(defects=names, move=shifts(k)), base)
        for k, names in enumerate([("v_S",), ("W_Mo",), ("v_S", "W_Mo")])
    ]
    records.put(Supercell.of(host()), *ends)
    (pairs,) = pair_sets(read(records))
    start = None if scratch else parent
    if not scratch:
        assert np.abs(frame_of(parent, host())).max() > 1e-3
    learned = framed(start, pairs)
    parent.__dict__["network"] = Oracle(learned, parent.card.config)
    raw = predict(parent, host(), [end.configuration for end in ends])
    for end, one in zip(ends, raw, strict=True):
        atoms = [marker != "2" for marker in end.sites.markers]
        off = (base + one.displacements - end.sites.relaxed)[atoms]
        np.testing.assert_allclose(off - off.mean(0), 0, atol=2e-6)  # up to a shift of the whole
    pristine = predict(parent, host(), [Configuration(edits=())])[0]
    np.testing.assert_allclose(pristine.displacements, 0, atol=1e-12)


def test_rows_of_a_set_are_the_network_s_nodes(records):
    records.put(end := record(defects=("v_S", "W_Mo"), move=shifts()))
    (pairs,) = pair_sets(read(records))
    numbers, markers = nodes(host(), end.configuration)
    np.testing.assert_array_equal(pairs.numbers[0], numbers)
    np.testing.assert_array_equal(pairs.markers[0], markers)
    assert not pairs.relaxed[0][markers == 2].any()
    assert pairs.host.hash == host().hash


# ------------------------------------------------------------------ which end


def test_of_two_ends_the_unrelaxed_arm_s_is_taken_unless_another_is_lower(records):
    slightly, clearly = -100.004, -100.006
    records.put(record("unrelaxed", energy=-100.0), record("predicted", energy=slightly))
    training = read(records)
    assert [entry.record_id for entry in training.entries] == [record("unrelaxed").id]
    assert training.other_minima == 0
    records.put(record("predicted", energy=clearly))
    training = read(records)
    assert [entry.record_id for entry in training.entries] == [record("predicted").id]
    assert training.spare == (record("unrelaxed").id,)
    assert training.other_minima == 1


def test_without_an_unrelaxed_arm_the_lowest_is_taken(records):
    records.put(record("predicted", energy=-100.0), record("predicted", energy=-101.0, weights="b" * 64))
    assert learned(records) == {record("predicted", weights="b" * 64).id}


def test_an_unconverged_arm_does_not_hide_the_other(records):
    records.put(record("unrelaxed", converged=False), record("predicted"))
    training = read(records)
    assert [entry.record_id for entry in training.entries] == [record("predicted").id]
    assert [one.record for one in training.refused] == [record("unrelaxed").id]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "failed", "error": "no disk"}, "failed: no disk"),
        ({"status": "running", "ledger": None}, "running"),
        ({"potcar": "Mo_pv"}, "POTCAR of Mo"),
    ],
)
def test_what_is_refused_is_told(records, change, reason):
    good = [with_potcar(record(defects=names), "Mo_sv") for names in (("v_S",), ("v_Mo",))]
    records.put(*good, bad := changed(record(defects=("W_Mo",)), change))
    training = read(records)
    (refusal,) = training.refused
    assert (refusal.record, refusal.name) == (bad.id, bad.name)
    assert reason in refusal.reason
    assert len(training.entries) == 2


def edited(of: DefectRecord, configuration: Configuration, move=None) -> DefectRecord:
    """The record of another configuration of the same host."""
    identity = configuration.id_in(host().hash)
    return of.model_copy(
        update={
            "id": DefectRecord.identity(identity, SETTINGS, "unrelaxed", ""),
            "configuration_id": identity,
            "configuration": configuration,
            "sites": site_map(host(), configuration, move),
        }
    )


def test_charged_cells_and_inserted_atoms_are_learned_from(records):
    neutral = record(defects=("W_Mo",), move=shifts())
    charged = edited(neutral, neutral.configuration.model_copy(update={"charge": -1}), shifts(1))
    atom = Edit(marker=3, new=3, position=(0.1, 0.1, 0.9))
    grown = neutral.configuration.model_copy(update={"edits": (*neutral.configuration.edits, atom)})
    move = np.random.default_rng(2).normal(0, 0.05, (28, 3))
    records.put(
        neutral, charged, edited(neutral, grown, move), edited(neutral, grown.model_copy(update={"charge": 2}), move)
    )
    training = read(records)
    assert not training.refused
    with_atom, without = sorted(pair_sets(training), key=lambda pairs: not pairs.inserted)
    assert sorted(without.charges) == [-1, 0]
    assert sorted(with_atom.charges) == [0, 2]
    assert with_atom.inserted == ((0.1, 0.1, 0.9),)
    assert with_atom.markers.shape == (2, 28)
    assert set(with_atom.markers[:, -1].tolist()) == {3}
    assert np.allclose(with_atom.relaxed[0], move - move.mean(0), atol=1e-6)
    assert {kind for k in range(2) for kind in with_atom.kinds_of(k)} == {"W_Mo", "Li_i"}


def test_an_inserted_atom_that_ends_on_another_is_refused(records):
    neutral = record(defects=("W_Mo",))
    near = np.array(host().frac_coords[5]) + np.array([0, 0, 0.02])
    atom = Edit(marker=3, new=3, position=tuple((near % 1).tolist()))
    grown = neutral.configuration.model_copy(update={"edits": (*neutral.configuration.edits, atom)})
    records.put(edited(neutral, grown, np.zeros((28, 3))))
    (refusal,) = read(records).refused
    assert "covalent radii" in refusal.reason


def with_potcar(of: DefectRecord, symbol: str) -> DefectRecord:
    potcars = {f"PAW_PBE {symbol} 02Feb2006": "0" * 64}
    return of.model_copy(update={"ledger": of.ledger.model_copy(update={"potcars": potcars})})


def changed(of: DefectRecord, change) -> DefectRecord:
    if "potcar" in change:
        return with_potcar(of, change["potcar"])
    return of.model_copy(update=change)


def test_a_host_that_the_store_does_not_tell_is_refused(records):
    base = host().cartesian + shifts(3)
    stranger = relaxed_base(record(move=shifts()), base)
    note = stranger.host.model_copy(update={"provenance": {"source": "POSCAR"}})
    records.put(stranger.model_copy(update={"host": note}))
    training = read(records)
    assert "supercell as given is not in the store" in training.refused[0].reason
    assert not training.entries
    assert len(read_training_set(records, SETTINGS, [host()]).entries) == 1


def test_a_shipped_host_is_built_again_where_an_old_store_lacks_it(records):
    records.put(relaxed_base(record(move=shifts()), host().cartesian + shifts(3)))
    assert read(records).entries[0].host == host()


# ------------------------------------------------------------------ splits


@functools.cache
def every(size: int, most: int = 2) -> tuple[Configuration, ...]:
    kinds = Choices(defects=("v_S", "v_Mo", "W_Mo", "Se_S"), max_defects=most)
    return tuple(enumerate_configurations(make_host("MoS2", (size, size, 1)), kinds))


def test_symmetry_images_are_in_one_split():
    of = make_host("MoS2", (4, 4, 1))
    operations = site_operations(of)
    rng = np.random.default_rng(0)
    for configuration in every(4):
        for g in rng.choice(len(operations), 4):
            edits = [
                e.model_copy(update={"site": int(operations.permutations[g, e.site])}) for e in configuration.edits
            ]
            image = Configuration(edits=tuple(edits))
            assert split_of(of, image) == split_of(of, configuration)


def test_the_same_defects_in_a_larger_supercell_are_in_the_same_split():
    hosts = [make_host("MoS2", (size, size, 1)) for size in (5, 8)]
    near = Choices(defects=("v_S", "v_Mo", "W_Mo", "Se_S"), max_defects=2, max_distance=5)
    small, large = ([(c.name, split_of(h, c)) for c in enumerate_configurations(h, near)] for h in hosts)
    assert sorted(small) == sorted(large)


def test_the_splits_have_their_shares_and_stay_as_records_arrive(records):
    of = make_host("MoS2", (4, 4, 1))
    drawn = Counter(split_of(of, one) for one in every(4, 3))
    for split, share in SHARES.items():
        assert drawn[split] / len(every(4, 3)) == pytest.approx(share, abs=0.03)
    first = [record(defects=names) for names in (("v_S",), ("W_Mo",), ("Se_S",))]
    records.put(*first)
    before = {entry.configuration_id: entry.split for entry in read(records).entries}
    hashes = {read(records).data_hash}
    records.put(*(record(defects=names) for names in (("v_Mo",), ("v_S", "v_S"), ("v_S", "W_Mo"))))
    after = {entry.configuration_id: entry.split for entry in read(records).entries}
    assert len(after) == 6
    assert before.items() <= after.items()
    hashes.add(read(records).data_hash)
    records.put(record(defects=("v_S",), move=shifts(9)))
    hashes.add(read(records).data_hash)
    assert len(hashes) == 3


def test_the_charge_and_the_canonical_choice_do_not_matter():
    of = make_host("MoS2", (4, 4, 1))
    neutral, charged = (place(of, ["v_S@16", "W_Mo@0"], charge=charge) for charge in (0, -1))
    assert split_of(of, neutral) == split_of(of, charged)


def test_what_is_replayed_counts_among_what_a_fine_tuning_sees():
    others = [of for _, of in replayed_hosts(load_checkpoint("definet-2dmd"), [make_host("MoS2", (4, 4, 1))])]
    assert [of.formula for of in others] == ["WSe2", "BN", "GaSe", "InSe", "P"]
    an_epoch = 46 + ANCHORS * len(others)
    assert SEEN <= fine_tuning(46, len(others)).epochs * an_epoch < SEEN + an_epoch
