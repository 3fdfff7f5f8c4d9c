"""The pre-relaxer `potential`: what it takes for the defect's part, what it refuses, what it loads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure

from definet_flows.defects import nodes, place
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.schemas import Configuration, Edit, Host
from definet_flows.starts import potential as starts_potential
from definet_flows.starts.chains import ChainPreRelaxer
from definet_flows.starts.potential import PotentialPreRelaxer, identity_of, potential_named
from definet_flows.starts.proposals import Proposal
from definet_flows.starts.universal import UNIVERSAL, load_universal

CU = make_host(
    Structure(Lattice.cubic(3.61), ["Cu"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), (2, 2, 2)
)
PRISTINE = Configuration(edits=())
VACANCY = place(CU, ["v_Cu@0"])
GOLD = place(CU, ["Au_Cu@0"])
IRON = place(CU, ["Fe_Cu@0"])
INSERTED = Configuration(edits=(Edit(marker=3, new=13, position=(0.27, 0.24, 0.25)),))
"""Aluminium beside the octahedral site of the fcc cell."""


class Counted(EMT):
    """EMT that counts its evaluations, and whose forces are no numbers where an element is in `nan_with`."""

    def __init__(self, nan_with: int | None = None) -> None:
        super().__init__()
        self.calls, self.nan_with = 0, nan_with

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        self.calls += 1
        super().calculate(atoms, properties, system_changes)
        if self.nan_with in atoms.numbers:
            self.results["forces"] = np.full((len(atoms), 3), np.nan)


def emt(**options) -> PotentialPreRelaxer:
    return PotentialPreRelaxer("emt", Counted, "emt", **options)


def proposed(configuration: Configuration, host: Host = CU, base: np.ndarray | None = None, **options) -> Proposal:
    (proposal,) = emt(**options).propose(host, host.cartesian if base is None else base, [configuration])
    return proposal


def moved(configuration: Configuration, host: Host = CU, base: np.ndarray | None = None, **options) -> np.ndarray:
    proposal = proposed(configuration, host, base, **options)
    assert proposal.error is None
    return proposal.displacements


def rattled() -> np.ndarray:
    return CU.cartesian + np.random.default_rng(0).normal(0, 0.02, (CU.n_sites, 3))


# ------------------------------------------------------------------ the defect's part


def test_a_configuration_on_its_minimum_does_not_move():
    assert np.abs(moved(PRISTINE)).max() < 1e-9
    assert np.abs(moved(PRISTINE, base=rattled())).max() < 1e-9


def test_neighbours_of_a_vacancy_move_alike_and_its_row_does_not():
    displacements = moved(VACANCY)
    (site,) = (edit.site for edit in VACANCY.edits)
    assert (displacements[site] == 0).all()
    away = CU.cartesian - CU.cartesian[site]
    away -= np.rint(away / 7.22) * 7.22
    size = np.linalg.norm(away, axis=1)
    inwards = -(displacements * away).sum(1)[np.isclose(size, 3.61 / 2**0.5)] / (3.61 / 2**0.5)
    assert len(inwards) == 12
    assert np.ptp(inwards) < 1e-3
    assert 0.01 < inwards.mean() < 0.2


def test_the_hosts_own_motion_is_no_part_of_a_displacement():
    """A base away from the potential's minimum gives what its minimum gives, not the way there."""
    from_minimum = moved(GOLD, criterion=1e-3)
    assert np.abs(from_minimum).max() > 0.02
    assert np.abs(moved(GOLD, base=rattled(), criterion=1e-3) - from_minimum).max() < 1e-3


def test_no_translation_is_proposed():
    for configuration in (VACANCY, INSERTED):
        displacements = moved(configuration, base=rattled() + np.array([0.1, 0, 0]))
        atoms = nodes(CU, configuration)[1] != 2
        assert np.abs(displacements[atoms].mean(0)).max() < 1e-12
    assert np.abs(moved(VACANCY, base=CU.cartesian + np.array([3.0, 0, 0])) - moved(VACANCY)).max() < 1e-6


def test_rows_follow_the_sites_of_the_host():
    order = np.random.default_rng(1).permutation(CU.n_sites)
    where = np.argsort(order)
    host = CU.model_copy(update={"frac_coords": tuple(CU.frac_coords[k] for k in order)})
    edits = tuple(edit.model_copy(update={"site": int(where[edit.site])}) for edit in GOLD.edits)
    assert np.abs(moved(Configuration(edits=edits), host) - moved(GOLD)[order]).max() < 1e-6


def test_an_inserted_atom_moves_in_the_last_row():
    displacements = moved(INSERTED)
    assert displacements.shape == (CU.n_sites + 1, 3)
    assert displacements[-1, 0] < -0.05  # to the octahedral site
    assert displacements[-1, 1] > 0.02
    assert displacements[-1, 2] == pytest.approx(0, abs=1e-9)
    gate = emt().judge(CU, INSERTED, CU.cartesian, Proposal(displacements))
    assert gate.verdict in {"accepted", "flagged"}
    far = displacements.copy()
    far[-1] += 5.0
    assert emt().judge(CU, INSERTED, CU.cartesian, Proposal(far)).verdict == "rejected"


# ------------------------------------------------------------------ what it refuses


def test_a_failure_is_the_result_of_its_configuration_and_the_others_go_on():
    relaxer = PotentialPreRelaxer("emt", lambda: Counted(nan_with=79), "emt")
    elsewhere = Configuration(edits=(Edit(marker=2, site=500, old=29),))
    proposals = relaxer.propose(CU, CU.cartesian, [IRON, GOLD, elsewhere, VACANCY])
    errors = [proposal.error for proposal in proposals]
    assert "emt fails on" in errors[0]
    assert "Fe" in errors[0]
    assert "forces of emt on Au" in errors[1]
    assert "site 500" in errors[2]
    assert errors[3] is None
    assert all("\n" not in error for error in errors[:3])
    assert [proposal.displacements is None for proposal in proposals] == [True, True, True, False]
    gate = relaxer.judge(CU, IRON, CU.cartesian, proposals[0])
    assert (gate.verdict, errors[0] in gate.reason) == ("rejected", True)


def test_a_relaxation_cut_off_is_no_proposal():
    error = proposed(VACANCY, steps=1).error
    assert error.startswith("emt has forces of ")
    assert error.endswith("eV/Å after 1 steps, above 0.05 eV/Å")


def test_a_host_that_fails_is_the_reason_for_each_and_is_tried_once():
    relaxer = PotentialPreRelaxer("emt", lambda: Counted(nan_with=29), "emt")
    proposals = [*relaxer.propose(CU, CU.cartesian, [VACANCY, GOLD]), *relaxer.propose(CU, CU.cartesian, [VACANCY])]
    assert {proposal.error for proposal in proposals} == {proposals[0].error}
    assert proposals[0].error.startswith("the host Cu: forces of emt on Cu32 are no numbers")
    assert relaxer._calculator.calls == 1


def test_a_potential_without_charges_says_so():
    charged = VACANCY.model_copy(update={"charge": -2})
    proposal = proposed(charged)
    assert proposal.note == "emt knows no charge: relaxed as neutral, not -2"
    assert np.array_equal(proposal.displacements, moved(VACANCY))
    assert proposed(VACANCY).note == proposed(charged, knows_charge=True).note == ""


def test_names():
    with pytest.raises(InputError, match="unknown potential 'potential:emt': take potential:sevennet, potential:sev"):
        potential_named("potential:emt")
    with pytest.raises(InputError, match="unknown potential 'definet'"):
        potential_named("definet")
    assert potential_named("potential").key == potential_named("potential:sevennet").key
    assert potential_named("potential").name == "potential:sevennet"


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("definet_flows.starts.universal.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"'chgnet' needs the package chgnet: pip install -e '\.\[chgnet\]'"):
        potential_named("potential:chgnet")


# ------------------------------------------------------------------ identity and cost


def test_the_key_is_the_potential_and_the_criterion(monkeypatch, tmp_path):
    keys = {emt().key, emt(criterion=0.02).key, emt(steps=50).key, PotentialPreRelaxer("emt", Counted, "other").key}
    assert len(keys) == 4
    assert PotentialPreRelaxer("another name", EMT, "emt").key == emt().key == emt().state
    before = potential_named("potential:sevennet").key
    assert potential_named("potential:sevennet-l3i5").key != before
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"other")
    monkeypatch.setattr(starts_potential, "weights_of", lambda _: weights)
    assert potential_named("potential:sevennet").key != before
    assert identity_of("sevennet").startswith("7net-0 sha256:")


def test_a_proposal_keeps_its_time_and_that_of_its_cores():
    one = proposed(VACANCY)
    assert one.core_seconds == pytest.approx(one.seconds * torch.get_num_threads())
    known = Proposal(moved(GOLD), seconds=2.0, core_seconds=6.0)
    (both,) = ChainPreRelaxer(Told(known), emt()).propose(CU, CU.cartesian, [GOLD])
    assert both.core_seconds > 6.0
    failed = proposed(IRON)
    assert (failed.error is not None, failed.seconds > 0) == (True, True)


def test_one_calculator_and_one_relaxation_of_the_host():
    made = []
    relaxer = PotentialPreRelaxer("emt", lambda: made.append(Counted()) or made[-1], "emt")
    assert made == []
    assert relaxer.propose(CU, CU.cartesian, []) == []
    assert made == []
    first = relaxer.propose(CU, CU.cartesian, [VACANCY])
    calls = made[0].calls
    relaxer.propose(CU, CU.cartesian, [PRISTINE])
    assert (len(made), made[0].calls) == (1, calls + 1)
    again = relaxer.propose(CU, CU.cartesian, [VACANCY, VACANCY])
    assert all(np.array_equal(proposal.displacements, first[0].displacements) for proposal in again)
    assert all(proposal.seconds > 0 and proposal.device == "cpu" for proposal in again)


def test_a_named_potential_is_loaded_at_its_first_proposal():
    load_universal.cache_clear()
    potential_named("potential:sevennet")
    assert load_universal.cache_info().currsize == 0


# ------------------------------------------------------------------ chains


class Told:
    """A pre-relaxer that says what it is told to say."""

    name, key, slow = "told", "k", False

    def __init__(self, *proposals: Proposal) -> None:
        self.proposals = list(proposals)

    def propose(self, _host, _base, configurations):
        assert len(configurations) == len(self.proposals)
        return self.proposals

    def judge(self, host, configuration, base, proposal):
        return emt().judge(host, configuration, base, proposal)


def test_a_chain_begins_where_the_first_ends():
    end = moved(GOLD, criterion=1e-3)
    first = Proposal(end, seconds=2.0, uncertainty=0.01, note="of two records", learned_from="records")
    chain = ChainPreRelaxer(Told(first), relaxer := emt(criterion=2e-3))
    assert chain.name == "told+emt"
    (proposal,) = chain.propose(CU, CU.cartesian, [GOLD.model_copy(update={"charge": 1})])
    calls = relaxer._calculator.calls
    relaxer.propose(CU, CU.cartesian, [PRISTINE])  # the host at rest takes one evaluation, so did the configuration
    assert relaxer._calculator.calls == calls + 1 == emt_calls_of_the_host() + 2
    assert np.abs(proposal.displacements - end).max() < 1e-9
    assert proposal.seconds > 2.0
    assert proposal.core_seconds is None  # that of the first is unknown
    assert proposal.uncertainty is None
    assert proposal.note == "of two records; emt knows no charge: relaxed as neutral, not +1"


def emt_calls_of_the_host() -> int:
    relaxer = emt(criterion=2e-3)
    relaxer.propose(CU, CU.cartesian, [PRISTINE])
    return relaxer._calculator.calls - 1


def test_a_chain_ends_in_the_minimum_of_the_second():
    halfway = Proposal(moved(GOLD) * 0.5)
    (proposal,) = ChainPreRelaxer(Told(halfway), emt(criterion=1e-3)).propose(CU, CU.cartesian, [GOLD])
    assert np.abs(proposal.displacements - moved(GOLD, criterion=1e-3)).max() < 2e-3


def test_a_chain_does_not_go_on_from_nothing_or_from_what_the_gate_rejects():
    wild = np.zeros((CU.n_sites, 3))
    wild[5] = 5.0
    told = Told(Proposal(None, error="no record"), Proposal(wild), Proposal(np.zeros((CU.n_sites, 3))))
    nothing, rejected, fit = ChainPreRelaxer(told, emt()).propose(CU, CU.cartesian, [VACANCY, GOLD, GOLD])
    assert nothing.error == "told: no record"
    assert rejected.error.startswith("told: ")
    assert rejected.displacements is None
    assert np.array_equal(fit.displacements, moved(GOLD))


def test_the_key_of_a_chain_is_both_keys_in_order():
    one, other = emt(), emt(criterion=0.02)
    keys = {ChainPreRelaxer(first, second).key for first in (one, other) for second in (one, other)}
    assert len(keys) == 4
    learned = [
        ChainPreRelaxer(Told(Proposal(np.zeros((CU.n_sites, 3)), learned_from=records)), one)
        .propose(CU, CU.cartesian, [GOLD])[0]
        .learned_from
        for records in ("a", "b")
    ]
    assert learned[0] != learned[1]


# ------------------------------------------------------------------ a real potential


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(UNIVERSAL) - {"chgnet"}))
def test_sevennet_relaxes_a_vacancy_and_refuses_an_element_it_never_saw(name):
    host = make_host("MoS2", (3, 3, 1))
    vacancy = place(host, [f"v_S@{host.numbers.index(16)}"])
    site = vacancy.edits[0].site
    unknown = Configuration(edits=(Edit(marker=1, site=site, old=16, new=118),))
    relaxer = potential_named(f"potential:{name}")
    fit, refused = relaxer.propose(host, host.cartesian, [vacancy, unknown])
    assert refused.error.startswith(f"potential:{name} fails on")
    assert "118" in refused.error
    away = np.linalg.norm(fit.displacements, axis=1)
    assert 0.02 < away.max() < 0.3
    assert relaxer.judge(host, vacancy, host.cartesian, fit).verdict == "accepted"
    again = replace(relaxer)
    (end,) = again.propose_from(host, host.cartesian, [vacancy], [fit.displacements])
    assert np.abs(end.displacements - fit.displacements).max() < 2e-3
