"""Configurations that the weights never saw, or that are no structure: a reason each, and the campaign goes on."""

import dataclasses
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from atomate2.ase.jobs import EmtRelaxMaker
from flow_helpers import CU, engine, run, stored

from definet_flows.defects import place
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Card, Learned, save_checkpoint
from definet_flows.model.inference.domain import unit_cell
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.schemas import AUTO, Configuration, Edit
from definet_flows.workflows.campaign import choosing, flow

pytest_plugins = ["flow_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Structure charge")  # pymatgen's word for a charge beside neutral atoms

HOST = make_host(CU, (2, 2, 2))
LENGTH = 7.2  # Å; of the supercell


@dataclasses.dataclass
class Charged(EmtRelaxMaker):
    """EMT that is given charged cells."""

    knows_charge: ClassVar[bool] = True


def inserted(offset: float) -> Configuration:
    """A copper atom so many Å from a site."""
    return Configuration(edits=(Edit(marker=3, new=29, position=(offset / LENGTH, 0.0, 0.0)),))


BAD = {
    "v_Cu in charge -1 never seen in training, only in 0, +1": place(HOST, ["v_Cu@0"], charge=-1),
    "element Ag never seen in training": place(HOST, ["Ag_Cu@0"]),
    "unrelaxed Cu (site 0) and Cu (site 32) 0.07 Å apart, on top of each other": inserted(0.07),
    "unrelaxed Cu (site 0) and Cu (site 32) 0.45 Å apart, on top of each other": inserted(0.45),
}


@pytest.fixture
def knowing(workplace):
    """Weights that know vacancies in two charges and inserted atoms in one."""
    torch.manual_seed(0)
    config = NetworkConfig(hidden=8, layers=2, gaussians=16, charges=True, inserted=True)
    learned = tuple(Learned(host="Cu", kind=k, charge=q, n=3) for k, q in (("v_Cu", 0), ("v_Cu", 1), ("Cu_i", 0)))
    hosts = (unit_cell(make_host(CU, (1, 1, 1))),)
    card = Card(name="knowing", config=config, hosts=hosts, elements=(29,), learned=learned)
    return save_checkpoint(workplace / "knowing.safetensors", DefiNet(config), card)


@pytest.mark.parametrize("prerelaxer", ["definet", AUTO])
def test_each_has_a_reason_and_is_relaxed_from_the_next_start(maker, jobs, knowing, monkeypatch, prerelaxer):
    good = place(HOST, ["v_Cu@0"])
    monkeypatch.setattr(flow, "select_configurations", lambda *_: (good, *BAD.values()))
    monkeypatch.setattr(choosing, "_POTENTIALS", ())
    maker = replace(maker, model=str(knowing.path), prerelaxer=prerelaxer, control_fraction=0, engine=engine(Charged))
    output, _ = run(maker.make(CU), jobs)
    records = {record.configuration_id: record for record in stored()[0]}
    assert (len(records), output["relaxations_run"], output["savings"]["gated"]) == (5, 5, 4)
    assert all(record.status == "done" and record.ledger.converged for record in records.values())
    assert records[good.id_in(HOST.hash)].start == "predicted"
    for reason, configuration in BAD.items():
        record = records[configuration.id_in(HOST.hash)]
        assert (record.start, record.prediction.gate.verdict) == ("unrelaxed", "rejected")
        assert reason in record.prediction.gate.reason
