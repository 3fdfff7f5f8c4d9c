"""Fields carried between supercells, against answers that are known by construction."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from definet_flows.defects import nodes, place, site_operations, stabilizer
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.schemas import VACANCY, Configuration, Edit, Host
from definet_flows.starts.fields import FieldsPreRelaxer
from definet_flows.starts.fields.charges import split
from definet_flows.starts.fields.crystal import Crystal, lay
from definet_flows.starts.gate import distance_to_defects
from definet_flows.starts.proposals import Evidence, PreRelaxer, Proposal

WURTZITE = Structure(
    Lattice.hexagonal(3.2, 5.2),
    ["Ga", "Ga", "N", "N"],
    [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.377], [2 / 3, 1 / 3, 0.877]],
)
SMALL, LARGE = make_host(WURTZITE, (3, 3, 2)), make_host(WURTZITE, (4, 4, 3))
REACH = 3.3  # Å; made-up fields end inside every cell


def near(host: Host, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sites within reach of a point (fractional), and the ways to them, Å."""
    away = np.array(host.frac_coords) - centre
    away = (away - np.rint(away)) @ np.array(host.lattice)
    sites = np.flatnonzero(np.linalg.norm(away, axis=1) < REACH)
    return sites, away[sites]


def at(host: Host, old: int, new: int, *, number: int = 0, charge: int = 0) -> Configuration:
    """A vacancy (new 0) or a substitution on one of the sites of an element."""
    site = [k for k, z in enumerate(host.numbers) if z == old][number]
    edit = Edit(marker=1, site=site, old=old, new=new) if new else Edit(marker=2, site=site, old=old)
    return Configuration(edits=(edit,), charge=charge)


def joined(*configurations: Configuration) -> Configuration:
    return Configuration(edits=tuple(edit for configuration in configurations for edit in configuration.edits))


def made_up(host: Host, configuration: Configuration, seed: int = 0) -> np.ndarray:
    """A field with its site's symmetry, zero beyond reach, without a mean."""
    edit = configuration.edits[0]
    sites, _ = near(host, np.array(host.frac_coords[edit.site]))
    atoms = sites[sites != edit.site] if edit.marker == VACANCY else sites
    moved = np.zeros((host.n_sites, 3))
    moved[atoms] = np.random.default_rng(seed).normal(0, 0.1, (len(atoms), 3))
    moved = stabilizer(host, configuration).images(moved).mean(0)
    moved[atoms] -= moved[atoms].mean(0)
    return moved


def copied(source: Host, site: int, moved: np.ndarray, target: Host, onto: int) -> np.ndarray:
    """A field copied by the ways from its site, for cells in one frame."""
    sites, away = near(source, np.array(source.frac_coords[site]))
    others, ways = near(target, np.array(target.frac_coords[onto]))
    out = np.zeros((target.n_sites, 3))
    for other, way in zip(others, ways, strict=True):
        k = np.linalg.norm(away - way, axis=1).argmin()
        assert np.linalg.norm(away[k] - way) < 1e-6
        out[other] = moved[sites[k]]
    return out


def propose(host: Host, configuration: Configuration, *evidence: Evidence) -> Proposal:
    return FieldsPreRelaxer(evidence).propose(host, host.cartesian, [configuration])[0]


def agree(proposal: Proposal, expected: np.ndarray, within: float = 1e-5) -> None:
    assert proposal.error is None
    assert np.abs(proposal.displacements - expected).max() < within


def record(host: Host, configuration: Configuration, moved: np.ndarray, name: str = "r", energy=None) -> Evidence:
    return Evidence(name, host, configuration, moved, energy)


# ------------------------------------------------------------------ carrying


@pytest.mark.parametrize("kind", [(7, 0), (31, 7)])
def test_a_field_follows_the_operation_that_maps_its_site(kind):
    source = at(SMALL, *kind)
    moved = made_up(SMALL, source)
    operations = site_operations(SMALL)
    images = operations.images(moved)
    turned = np.abs(operations.rotations - np.eye(3)).max(axis=(1, 2)) > 0.1
    mirrored = np.linalg.det(operations.rotations) < 0
    for g in (*np.flatnonzero(turned)[::41][:4], *np.flatnonzero(mirrored)[::41][:4]):
        edit = source.edits[0]
        there = edit.model_copy(update={"site": int(operations.permutations[g, edit.site])})
        agree(propose(SMALL, Configuration(edits=(there,)), record(SMALL, source, moved)), images[g])


@pytest.mark.parametrize(
    ("source", "target"), [(SMALL, LARGE), (SMALL, make_host(WURTZITE, [[4, 1, 0], [0, 3, 0], [0, 0, 2]]))]
)
@pytest.mark.parametrize("number", [0, 5])
def test_a_field_goes_to_a_supercell_of_another_size_and_shape(source, target, number):
    small, large = at(source, 7, 0), at(target, 7, 0, number=number)
    moved = made_up(source, small)
    proposal = propose(target, large, record(source, small, moved))
    agree(proposal, copied(source, small.edits[0].site, moved, target, large.edits[0].site))
    back = propose(source, small, record(target, large, proposal.displacements))
    agree(back, moved)


def test_beyond_the_source_cell_nothing_moves():
    small, large = at(SMALL, 7, 0), at(LARGE, 7, 0)
    moved = np.random.default_rng(1).normal(0, 0.1, (SMALL.n_sites, 3))
    moved[small.edits[0].site] = 0
    proposal = propose(LARGE, large, record(SMALL, small, moved))
    still = proposal.displacements[distance_to_defects(LARGE, large) > 7.7]  # Å; the small cell's corners
    assert len(still) > 5
    assert np.ptp(still, axis=0).max() < 1e-12  # all atoms have the same shift, which takes off the mean
    atoms = np.arange(LARGE.n_sites) != large.edits[0].site
    assert np.abs(proposal.displacements[atoms].mean(0)).max() < 1e-12


def redescribed(host: Host, seed: int) -> tuple[Host, np.ndarray, np.ndarray]:
    """The same supercell turned, with other lattice vectors, origin and order: host, order and rotation."""
    draw = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    change = np.array([[1, 1, 0], [0, 1, 0], [0, -1, 1]])
    order = draw.permutation(host.n_sites)
    frac = (np.array(host.frac_coords)[order] + [0.1, 0.2, 0.3]) @ np.linalg.inv(change)
    lattice = change @ np.array(host.lattice) @ turn
    numbers = tuple(np.array(host.numbers)[order].tolist())
    structure = Structure(lattice, numbers, frac)
    return make_host(structure, (1, 1, 1), symprec=1e-4), order, turn


def test_a_host_in_another_description_gets_the_same_field():
    small = at(SMALL, 7, 0)
    moved = made_up(SMALL, small)
    other, order, turn = redescribed(SMALL, 3)
    site = int(np.flatnonzero(order == small.edits[0].site)[0])
    there = Configuration(edits=(small.edits[0].model_copy(update={"site": site}),))
    agree(propose(other, there, record(SMALL, small, moved)), moved[order] @ turn, within=1e-4)
    agree(propose(SMALL, small, record(other, there, moved[order] @ turn)), moved, within=1e-4)


def test_a_layer_with_another_vacuum_is_the_same_crystal():
    thin, thick = make_host("MoS2", (5, 5, 1)), make_host("MoS2", (6, 6, 1), vacuum=31.0)
    small, large = at(thin, 16, 34, number=30), at(thick, 16, 34, number=40)
    moved = made_up(thin, small)
    proposal = propose(thick, large, record(thin, small, moved))
    expected = np.linalg.norm(moved, axis=1)
    assert np.allclose(
        np.sort(np.linalg.norm(proposal.displacements, axis=1))[-20:], np.sort(expected)[-20:], atol=1e-5
    )


def test_a_field_without_its_sites_symmetry_keeps_its_direction():
    small, large = at(SMALL, 7, 0), at(LARGE, 7, 0, number=3)
    sites, _ = near(SMALL, np.array(SMALL.frac_coords[small.edits[0].site]))
    moved = np.zeros((SMALL.n_sites, 3))
    a, b = sites[sites != small.edits[0].site][:2]
    moved[a], moved[b] = [0.3, 0.1, 0], [-0.3, -0.1, 0]
    agree(
        propose(LARGE, large, record(SMALL, small, moved)),
        copied(SMALL, small.edits[0].site, moved, LARGE, large.edits[0].site),
    )


# ------------------------------------------------------------------ inserted atoms


def inserted(cell: tuple[int, int, int], repeats: tuple[int, int, int], shift: float = 0.0) -> Configuration:
    position = (np.array([0, 0, 0.25 + shift]) + cell) / repeats
    return Configuration(edits=(Edit(marker=3, new=3, position=tuple(position.tolist())),))


def test_an_interstitial_moves_itself_and_its_neighbours():
    small, large = inserted((1, 1, 0), (3, 3, 2)), inserted((2, 3, 1), (4, 4, 3))
    sites, _ = near(SMALL, np.array(small.edits[0].position))
    moved = np.zeros((SMALL.n_sites + 1, 3))
    moved[[*sites, -1], 2] = np.linspace(-0.2, 0.2, len(sites) + 1)
    proposal = propose(LARGE, large, record(SMALL, small, moved))
    assert proposal.displacements.shape == (LARGE.n_sites + 1, 3)
    assert np.allclose(proposal.displacements[-1], [0, 0, 0.2], atol=1e-9)
    assert np.allclose(np.sort(proposal.displacements[:, 2])[-4:], np.sort(moved[:, 2])[-4:], atol=1e-9)


def test_an_interstitial_that_begins_elsewhere_ends_at_the_same_place():
    small, large = inserted((1, 1, 0), (3, 3, 2)), inserted((2, 3, 1), (4, 4, 3), shift=0.02)
    moved = np.zeros((SMALL.n_sites + 1, 3))
    proposal = propose(LARGE, large, record(SMALL, small, moved))
    assert proposal.displacements[-1, 2] - proposal.displacements[0, 2] == pytest.approx(-0.02 * 5.2)


def test_an_interstitial_at_another_place_has_no_record():
    small = inserted((1, 1, 0), (3, 3, 2))
    other = Configuration(edits=(Edit(marker=3, new=3, position=(0.1, 0.05, 0.4)),))
    proposal = propose(SMALL, other, record(SMALL, small, np.zeros((SMALL.n_sites + 1, 3))))
    assert proposal.displacements is None
    assert proposal.error == "no record of Li_i"


# ------------------------------------------------------------------ sums


def three() -> list[Configuration]:
    return [at(SMALL, 7, 0, number=2), at(SMALL, 31, 13, number=9), at(SMALL, 7, 8, number=30)]


def test_additive_displacements_are_recovered():
    singles = three()
    fields = [made_up(SMALL, single, seed) for seed, single in enumerate(singles)]
    evidence = [
        record(SMALL, single, field, f"r{k}") for k, (single, field) in enumerate(zip(singles, fields, strict=True))
    ]
    all_three, total = joined(*singles), sum(fields)
    total[singles[0].edits[0].site] = 0
    total[nodes(SMALL, all_three)[1] != VACANCY] -= total[nodes(SMALL, all_three)[1] != VACANCY].mean(0)
    proposal = propose(SMALL, all_three, *evidence)
    agree(proposal, total, within=1e-3)
    assert proposal.uncertainty > 0  # nothing is known of what they do to each other


def test_what_a_recorded_pair_has_beyond_its_defects_counts():
    singles = three()
    fields = [made_up(SMALL, single, seed) for seed, single in enumerate(singles)]
    pair = joined(*singles[:2])
    extra = np.zeros((SMALL.n_sites, 3))
    extra[[40, 41]] = [[0.2, 0, 0], [-0.2, 0, 0]]
    evidence = [
        record(SMALL, single, field, f"r{k}") for k, (single, field) in enumerate(zip(singles, fields, strict=True))
    ]
    together = fields[0] + fields[1] + extra
    together[singles[0].edits[0].site] = 0
    without = propose(SMALL, joined(*singles), *evidence)
    proposal = propose(SMALL, joined(*singles), *evidence, record(SMALL, pair, together, "pair"))
    gained = proposal.displacements - without.displacements
    assert np.abs(gained[[40, 41]] - extra[[40, 41]]).max() < 0.02
    assert proposal.learned_from != without.learned_from
    agree(
        propose(SMALL, pair, *evidence, record(SMALL, pair, together, "pair")), together - together.mean(0), within=0.01
    )


def test_a_complex_is_carried_as_a_whole():
    pair = joined(at(SMALL, 7, 0, number=2), at(SMALL, 31, 13, number=9))
    centre = np.array(SMALL.frac_coords[pair.edits[0].site])
    sites, _ = near(SMALL, centre)
    moved = np.zeros((SMALL.n_sites, 3))
    moved[sites[1:]] = np.random.default_rng(2).normal(0, 0.1, (len(sites) - 1, 3))
    moved[pair.edits[0].site] = 0
    proposal = propose(SMALL, pair, record(SMALL, pair, moved))
    atoms = np.arange(SMALL.n_sites) != pair.edits[0].site
    agree(proposal, np.where(atoms[:, None], moved - moved[atoms].mean(0), 0))


def beside(host: Host, number: int) -> Configuration:
    """A vacancy with aluminium on the gallium straight above it."""
    vacancy = at(host, 7, 0, number=number)
    sites, away = near(host, np.array(host.frac_coords[vacancy.edits[0].site]))
    above = int(sites[np.argmax(away[:, 2] * (np.linalg.norm(away[:, :2], axis=1) < 0.1))])
    return joined(vacancy, Configuration(edits=(Edit(marker=1, site=above, old=31, new=13),)))


def test_a_complex_is_carried_to_a_larger_cell_across_its_boundary():
    small, large = beside(SMALL, 1), beside(LARGE, 6)
    centre, onto = small.edits[0].site, large.edits[0].site
    sites, _ = near(SMALL, np.array(SMALL.frac_coords[centre]))
    moved, atoms = np.zeros((SMALL.n_sites, 3)), sites[sites != centre]
    moved[atoms] = np.random.default_rng(4).normal(0, 0.1, (len(atoms), 3))
    moved[atoms] -= moved[atoms].mean(0)
    proposal = propose(LARGE, large, record(SMALL, small, moved))
    agree(proposal, copied(SMALL, centre, moved, LARGE, onto))


def test_records_that_do_not_count_are_not_named():
    singles = three()
    evidence = [record(SMALL, single, made_up(SMALL, single, k), f"r{k}") for k, single in enumerate(singles)]
    two = joined(*singles[:2])
    assert propose(SMALL, two, *evidence[:2]).learned_from == propose(SMALL, two, *evidence).learned_from
    assert propose(SMALL, singles[0], *evidence).learned_from != propose(SMALL, two, *evidence).learned_from


def test_left_out_complexes_tell_the_error_of_a_new_complex():
    kinds = ((7, 0), (31, 13), (7, 8), (31, 49))
    singles = [at(SMALL, *kind, number=7 * k) for k, kind in enumerate(kinds)]
    fields = [made_up(SMALL, single, k) for k, single in enumerate(singles)]
    evidence = [record(SMALL, one, field, f"r{k}") for k, (one, field) in enumerate(zip(singles, fields, strict=True))]
    draw = np.random.default_rng(0)
    for first, second in ((0, 1), (0, 2), (1, 2), (1, 3)):
        extra = draw.normal(0, 0.02, (SMALL.n_sites, 3))
        together = fields[first] + fields[second] + extra - extra.mean(0)
        evidence.append(record(SMALL, joined(singles[first], singles[second]), together, f"p{first}{second}"))
    proposal = propose(SMALL, joined(singles[2], singles[3]), *evidence)
    assert proposal.uncertainty == pytest.approx(0.02 * np.sqrt(2 / np.pi), rel=0.15)


def test_a_pair_errs_like_recorded_pairs_of_the_same_kinds_at_other_distances():
    """v_N beside Al_Ga is no sum of both, v_N beside O_N is: the next pair of each is trusted accordingly."""
    vacancy, aluminium, oxygen = at(SMALL, 7, 0), at(SMALL, 31, 13, number=7), at(SMALL, 7, 8, number=14)
    singles = [(one, made_up(SMALL, one, k)) for k, one in enumerate((vacancy, aluminium, oxygen))]
    evidence = [record(SMALL, one, field, f"r{k}") for k, (one, field) in enumerate(singles)]
    draw = np.random.default_rng(0)
    for k, off in ((1, 0.02), (2, 0.002)):
        extra = draw.normal(0, off, (SMALL.n_sites, 3))
        together = singles[0][1] + singles[k][1] + extra - extra.mean(0)
        evidence.append(record(SMALL, joined(vacancy, singles[k][0]), together, f"p{k}"))
    for elsewhere, off in ((at(SMALL, 31, 13, number=30), 0.02), (at(SMALL, 7, 8, number=30), 0.002)):
        proposal = propose(SMALL, joined(vacancy, elsewhere), *evidence)
        assert proposal.uncertainty == pytest.approx(off * np.sqrt(2 / np.pi), rel=0.2)


# ------------------------------------------------------------------ charges, ends, what is missing


def test_the_nearest_charge_is_taken_and_named():
    neutral, wanted = at(SMALL, 7, 0), at(SMALL, 7, 0, charge=1)
    fields = {charge: made_up(SMALL, neutral, seed) for seed, charge in enumerate((0, 3))}
    evidence = [record(SMALL, at(SMALL, 7, 0, charge=q), field, f"q{q}") for q, field in fields.items()]
    proposal = propose(SMALL, wanted, *evidence)
    agree(proposal, fields[0])
    assert proposal.note == "charge 0 taken for 1"
    exact = propose(SMALL, neutral, *evidence)
    assert (exact.note, exact.uncertainty) == ("", 0)
    assert proposal.uncertainty > 0


def test_a_charge_is_split_as_energies_favour():
    one, two = {0: 1.0, 1: -2.0, 2: 3.0}, {0: 0.5, 1: 0.0}
    assert split(1, [one, two]) == (1, 0)
    assert split(2, [one, two]) == (1, 1)
    assert split(2, [{0: None, 1: None, 2: None}, {0: None, 1: None}]) == (1, 1)
    assert split(7, [one, two]) == (2, 1)
    assert split(0, []) == ()


def test_the_total_goes_where_a_record_shows_it():
    assert split(2, [{0: None}, {0: None, 1: None, 2: None}]) == (0, 2)
    assert split(-2, [{-1: None, 0: None}, {0: None, -1: None, -2: None}]) == (-1, -1)
    first, second = at(SMALL, 7, 0, number=2), at(SMALL, 31, 13, number=9)
    neutral, both = made_up(SMALL, first, 1), joined(first, second)
    fields = {charge: made_up(SMALL, second, 2 + charge) for charge in (0, 2)}
    charged = (second.model_copy(update={"charge": charge}) for charge in fields)
    evidence = [record(SMALL, first, neutral, "r")]
    evidence += [record(SMALL, one, fields[one.charge], f"q{one.charge}") for one in charged]
    atoms = nodes(SMALL, both)[1] != VACANCY
    for charge, field in fields.items():
        expected = np.where(atoms[:, None], neutral + field, 0)
        expected[atoms] -= expected[atoms].mean(0)
        agree(propose(SMALL, both.model_copy(update={"charge": charge}), *evidence), expected, within=1e-3)


def test_a_charged_complex_teaches_nothing_of_neutral_defects():
    """Its defects are recorded neutral: no record shows which of them carries the charge."""
    singles = three()
    evidence = [record(SMALL, single, made_up(SMALL, single, k), f"r{k}") for k, single in enumerate(singles)]
    pair = joined(*singles[:2]).model_copy(update={"charge": 1})
    moved = made_up(SMALL, singles[1], 7)
    moved[singles[0].edits[0].site] = 0
    charged = record(SMALL, pair, moved, "charged")
    without, beside_it = (propose(SMALL, joined(*singles), *more) for more in (evidence, [*evidence, charged]))
    agree(beside_it, without.displacements)
    assert beside_it.learned_from == without.learned_from
    atoms = nodes(SMALL, pair)[1] != VACANCY
    agree(propose(SMALL, pair, *evidence, charged), np.where(atoms[:, None], moved - moved[atoms].mean(0), 0))


def test_the_lowest_of_several_ends_wins():
    single = at(SMALL, 7, 0)
    fields = [made_up(SMALL, single, seed) for seed in range(3)]
    ends = [
        record(SMALL, single, f, f"r{k}", e) for k, (f, e) in enumerate(zip(fields, (-1.0, -2.0, None), strict=True))
    ]
    for evidence in (ends, ends[::-1]):
        agree(propose(SMALL, single, *evidence), fields[1])


@pytest.mark.parametrize("zincblende", [False, True])
def test_another_crystal_teaches_nothing(zincblende):
    if zincblende:
        other = make_host(
            Structure.from_spacegroup("F-43m", Lattice.cubic(4.5), ["Ga", "N"], [[0] * 3, [0.25] * 3]), (2, 2, 2)
        )
    else:
        other = make_host(WURTZITE.copy().apply_strain(0.05, inplace=False), (3, 3, 2))
    assert lay(other, Crystal.of(SMALL)) is None
    single = at(other, 7, 0)
    proposal = propose(SMALL, at(SMALL, 7, 0), record(other, single, made_up(other, single)))
    assert proposal.displacements is None
    assert proposal.error == "no record of v_N"


def test_missing_defects_are_named():
    single = at(SMALL, 7, 0)
    both = joined(at(SMALL, 7, 0, number=3), at(SMALL, 31, 13), at(SMALL, 7, 8))
    proposal = propose(SMALL, both, record(SMALL, single, made_up(SMALL, single)))
    assert proposal.error == "no record of Al_Ga, O_N"
    gate = FieldsPreRelaxer(()).judge(SMALL, both, SMALL.cartesian, proposal)
    assert gate.verdict == "rejected"
    assert gate.reason == "no prediction: no record of Al_Ga, O_N"


def test_a_damaged_record_is_refused():
    single = at(SMALL, 7, 0)
    with pytest.raises(InputError, match="record r9: displacements of shape"):
        propose(SMALL, single, record(SMALL, single, np.zeros((5, 3)), "r9"))
    with pytest.raises(InputError, match="not finite"):
        propose(SMALL, single, record(SMALL, single, np.full((SMALL.n_sites, 3), np.nan), "r9"))


# ------------------------------------------------------------------ expected errors


def test_a_field_that_breaks_its_symmetry_is_doubted_elsewhere():
    small, large = at(SMALL, 31, 7), at(LARGE, 31, 7)
    moved = np.zeros((SMALL.n_sites, 3))
    moved[small.edits[0].site], moved[0 if small.edits[0].site else 1] = [0.5, 0, 0], [-0.5, 0, 0]
    fields = FieldsPreRelaxer([record(SMALL, small, moved)])
    proposal = fields.propose(LARGE, LARGE.cartesian, [large])[0]
    gate = fields.judge(LARGE, large, LARGE.cartesian, proposal)
    assert gate.verdict == "rejected"
    assert "is not below the mean motion" in gate.reason


@pytest.mark.parametrize(("factors", "verdict"), [((1.0, 1.5, 2.0), "accepted"), ((1.0, -1.5, 2.0), "rejected")])
def test_a_charge_that_ends_elsewhere_than_its_neighbours_is_doubted(factors, verdict):
    moved = made_up(SMALL, at(SMALL, 7, 0)) / 2
    evidence = [record(SMALL, at(SMALL, 7, 0, charge=q), f * moved, f"q{q}") for q, f in enumerate(factors)]
    fields, large = FieldsPreRelaxer(evidence), at(LARGE, 7, 0, charge=1)
    proposal = fields.propose(LARGE, LARGE.cartesian, [large])[0]
    assert fields.judge(LARGE, large, LARGE.cartesian, proposal).verdict == verdict


def test_it_is_a_pre_relaxer_whose_key_does_not_depend_on_evidence():
    single = at(SMALL, 7, 0)
    fields: PreRelaxer = FieldsPreRelaxer([record(SMALL, single, made_up(SMALL, single))])
    assert fields.name == "fields"
    assert fields.key == FieldsPreRelaxer(()).key
    pristine, again = fields.propose(SMALL, SMALL.cartesian, [Configuration(edits=()), place(SMALL, ["v_N@36"])])
    assert not pristine.displacements.any()
    assert again.device == "cpu"
    assert again.seconds == again.core_seconds > 0
    assert pristine.seconds == again.seconds  # what the batch took is shared out evenly
