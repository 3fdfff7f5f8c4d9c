"""A campaign on a metal that EMT relaxes in milliseconds, with a small untrained network."""

from __future__ import annotations

import dataclasses

import torch
from atomate2.ase.jobs import EmtRelaxMaker
from jobflow import run_locally
from pymatgen.core import Lattice, Structure

from definet_flows import open_store
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Card, save_checkpoint
from definet_flows.model.inference.domain import unit_cell
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet

RELAX = {"fmax": 0.02, "final_atoms_object_file": None}
CU = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])


@dataclasses.dataclass
class FailsWithNickel(EmtRelaxMaker):
    """EMT, but a structure with nickel ends in an error."""

    def run_ase(self, mol_or_struct, prev_dir=None):
        if "Ni" in mol_or_struct.symbol_set:
            msg = "no nickel today"
            raise RuntimeError(msg)
        return super().run_ase(mol_or_struct, prev_dir=prev_dir)


@dataclasses.dataclass
class FailsAlways(EmtRelaxMaker):
    """An engine that is not there."""

    def run_ase(self, mol_or_struct, prev_dir=None):
        raise RuntimeError(mol_or_struct.formula, prev_dir)


def engine(kind=EmtRelaxMaker):
    return kind(relax_cell=False, relax_kwargs=RELAX)


def write_weights(path, host=CU, seed=0):
    """Write small untrained weights that know the host, nickel and copper; they move atoms by hundredths of Å."""
    torch.manual_seed(seed)
    config = NetworkConfig(hidden=8, layers=2, gaussians=16)
    card = Card(name="small", config=config, hosts=(unit_cell(make_host(host, (1, 1, 1))),), elements=(28, 29))
    return save_checkpoint(path, DefiNet(config), card)


def run(flow, jobs):
    """Run a flow; return the output of its totals and how many relaxations the engine was asked for."""
    responses = run_locally(flow, store=jobs, create_folders=True, log=False)
    relaxations = list(jobs.query({"name": {"$regex": "^EMT relaxation"}}))
    return responses[flow.output.uuid][1].output, len(relaxations)


def stored():
    with open_store("records.sqlite", read_only=True) as records:
        found = sorted(records.records(), key=lambda record: (record.name, record.start))
        return found, sorted(records.pairs(), key=lambda pair: pair.name)


def documents():
    """Everything in the store but when it was written: predictions are judged anew."""
    with open_store("records.sqlite", read_only=True) as records:
        found = {doc["id"]: doc for doc in records.store.query()}
    return {key: {k: v for k, v in doc.items() if k != "last_updated"} for key, doc in found.items()}
