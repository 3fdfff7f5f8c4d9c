import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from definet_flows.defects import place
from definet_flows.hosts import load_structure, make_host
from definet_flows.model.inference.checkpoint import Card, Checkpoint
from definet_flows.model.inference.domain import unit_cell
from definet_flows.model.inference.predict import RawPrediction
from definet_flows.model.network.config import NetworkConfig
from definet_flows.schemas import Configuration, Edit, Gate, Host
from definet_flows.starts.gate import distance_to_defects, judge, shortest_distance

HOST = make_host("MoS2", (6, 6, 1))
VACANCY = place(HOST, ["v_S@36"])
CARD = Card(
    name="test", config=NetworkConfig(), hosts=(unit_cell(make_host("MoS2", (2, 2, 1))),), elements=(16, 42, 74)
)


def verdict(
    moved: np.ndarray | None = None,
    *,
    host: Host = HOST,
    configuration: Configuration = VACANCY,
    card: Card = CARD,
    allow: bool = False,
) -> Gate:
    checkpoint = Checkpoint(path=None, sha256="0" * 64, card=card)
    raw = RawPrediction(np.zeros((host.n_sites, 3)) if moved is None else moved, seconds=0.0, device="cpu")
    return judge(checkpoint, host, configuration, host.cartesian, raw, allow_unseen_host=allow)


def moving(site: int, by: list[float]) -> np.ndarray:
    moved = np.zeros((HOST.n_sites, 3))
    moved[site] = by
    return moved


def by_distance(number: int) -> list[int]:
    """Sites of an element by their distance to the vacancy, which is the first of its own."""
    order = np.argsort(distance_to_defects(HOST, VACANCY))
    return [int(k) for k in order if HOST.numbers[k] == number]


def outwards(sulphur: int) -> float:
    return float(np.sign(HOST.cartesian[sulphur, 2] - HOST.cartesian[by_distance(42)[0], 2]))


# ------------------------------------------------------------------ geometry


def test_small_moves_are_accepted():
    gate = verdict(np.random.default_rng(0).normal(0, 0.02, (HOST.n_sites, 3)))
    assert gate == Gate(verdict="accepted", in_domain=True, reason="")


def test_the_placeholder_may_be_predicted_anywhere():
    assert verdict(moving(VACANCY.edits[0].site, [30.0, 0, 0])).verdict == "accepted"


def test_long_moves_are_flagged_then_rejected():
    sulphur = by_distance(16)[1]
    up = outwards(sulphur)
    flagged = verdict(moving(sulphur, [0, 0, 1.2 * up]))
    assert (flagged.verdict, flagged.in_domain) == ("flagged", True)
    assert flagged.reason == f"site {sulphur} moves by 1.20 Å"
    rejected = verdict(moving(sulphur, [0, 0, 5.0 * up]))
    assert rejected.verdict == "rejected"
    assert rejected.reason == f"site {sulphur} moves by 5.00 Å, above 4.5 Å"


def test_a_far_atom_may_not_move_far():
    far = by_distance(16)[-1]
    assert distance_to_defects(HOST, VACANCY)[far] > 6
    gate = verdict(moving(far, [0, 0, 0.8 * outwards(far)]))
    assert gate.verdict == "rejected"
    assert f"site {far}, over 6 Å from every defect, moves by 0.80 Å" in gate.reason


def test_atoms_too_close_are_flagged_then_rejected_and_named():
    metal = by_distance(42)[0]
    position, cell = HOST.cartesian, np.array(HOST.lattice)
    others = np.flatnonzero(np.array(HOST.numbers) == 16)
    others = others[others != VACANCY.edits[0].site]
    apart = (position[others] - position[metal]) @ np.linalg.inv(cell)
    apart = (apart - np.rint(apart)) @ cell
    k = int(np.linalg.norm(apart, axis=1).argmin())
    bond, length = apart[k], np.linalg.norm(apart[k])
    radii = 1.54 + 1.05  # Å; Mo and S of Cordero et al.
    for ratio, expected in ((0.85, "accepted"), (0.76, "flagged"), (0.65, "rejected")):
        gate = verdict(moving(metal, (bond / length * (length - ratio * radii)).tolist()))
        assert gate.verdict == expected, gate.reason
        if expected != "accepted":
            assert f"Mo (site {metal})" in gate.reason
            assert f"S (site {others[k]})" in gate.reason
            assert f"at {ratio:.2f} of the sum of covalent radii" in gate.reason


def test_the_shortest_distance_crosses_the_cells_boundary_and_skips_vacancies():
    host = make_host(Structure(Lattice.cubic(8.0), ["Na", "Cl"], [[0] * 3, [0.5] * 3]), (1, 1, 1))
    positions = np.array([[0.2, 0, 0], [7.8, 0, 0]])
    ratio, pair = shortest_distance(host, Configuration(edits=()), positions)
    assert ratio == pytest.approx(0.4 / (1.66 + 1.02))
    assert pair == "Na (site 0) and Cl (site 1) 0.40 Å apart,"
    empty = Configuration(edits=(Edit(marker=2, site=1, old=17),))
    assert shortest_distance(host, empty, positions) == (np.inf, "")


def test_distances_to_defects_follow_the_minimum_image():
    distance = distance_to_defects(HOST, VACANCY)
    site = VACANCY.edits[0].site
    cell, cartesian = np.array(HOST.lattice), HOST.cartesian
    steps = np.array([[i, j, 0] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ cell
    brute = np.linalg.norm(cartesian[:, None] + steps - cartesian[site], axis=-1).min(1)
    assert np.allclose(distance, brute, atol=1e-6)
    assert np.isinf(distance_to_defects(HOST, Configuration(edits=()))).all()
    inserted = Configuration(edits=(Edit(marker=3, new=3, position=(0.0, 0.0, 0.5)),))
    assert np.isfinite(distance_to_defects(HOST, inserted)).all()


def test_a_failed_prediction_is_rejected_with_its_reason():
    raw = RawPrediction(None, seconds=0.0, device="cpu", error="the network's output is not finite")
    gate = judge(Checkpoint(None, "0" * 64, CARD), HOST, VACANCY, HOST.cartesian, raw)
    assert (gate.verdict, gate.in_domain) == ("rejected", True)
    assert gate.reason == "no prediction: the network's output is not finite"


# ------------------------------------------------------------------ domain


def out_of_domain(gate: Gate, *words: str) -> None:
    assert (gate.verdict, gate.in_domain) == ("rejected", False)
    for word in words:
        assert word in gate.reason


def test_inserted_atoms_charges_and_new_elements_are_out_of_domain():
    lithium = Edit(marker=3, new=3, position=(0.1, 0.2, 0.6))
    gate = verdict(configuration=Configuration(edits=(*VACANCY.edits, lithium), charge=-1))
    out_of_domain(gate, "inserted atoms", "charge -1")
    out_of_domain(verdict(configuration=place(HOST, ["Te_S@40"])), "element Te never seen in training")
    out_of_domain(verdict(configuration=place(HOST, ["Te_S@40"]), allow=True), "element Te never seen")
    assert verdict(configuration=place(HOST, ["W_Mo@0"])).in_domain


@pytest.mark.parametrize(
    ("size", "vacuum"), [((4, 4, 1), 16.0), ((3, 5, 1), 30.0), (((2, 1, 0), (-1, 3, 0), (0, 0, 1)), None)]
)
def test_a_host_is_known_in_any_supercell_and_vacuum(size, vacuum):
    host = make_host("MoS2", size, vacuum=vacuum, center=True)
    site = host.numbers.index(16)
    assert verdict(host=host, configuration=place(host, [f"v_S@{site}"])).in_domain


def test_a_host_strained_beyond_three_per_cent_or_of_another_kind_is_unknown():
    unit = load_structure("MoS2")
    matrix = unit.lattice.matrix * np.array([[1.05], [1.05], [1.0]])
    strained = make_host(Structure(matrix, unit.species, unit.frac_coords), (4, 4, 1))
    tellurium = Card(name="t", config=NetworkConfig(), hosts=CARD.hosts, elements=(*CARD.elements, 34))
    selenide = make_host("WSe2", (4, 4, 1))
    for host, name, card in ((strained, "v_S", CARD), (selenide, "v_Se", tellurium)):
        configuration = place(host, [f"{name}@{host.n_sites - 1}"])
        out_of_domain(
            verdict(host=host, configuration=configuration, card=card),
            f"host {host.formula} is none of those trained on (MoS2)",
        )
        assert verdict(host=host, configuration=configuration, card=card, allow=True).in_domain


def test_weights_of_unknown_domain_need_leave():
    bare = Card(name="published", config=NetworkConfig())
    out_of_domain(verdict(card=bare), "training domain is unknown")
    assert verdict(card=bare, allow=True).verdict == "accepted"
