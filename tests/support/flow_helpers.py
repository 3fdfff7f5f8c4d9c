"""A campaign on a metal that EMT relaxes in milliseconds, with a small untrained network."""

from __future__ import annotations

import dataclasses

from atomate2.ase.jobs import EmtRelaxMaker
from jobflow import run_locally

from definet_flows import open_store
from standins.copper import CU, write_weights

__all__ = ["CU", "RELAX", "FailsAlways", "FailsWithNickel", "documents", "engine", "run", "stored", "write_weights"]

RELAX = {"fmax": 0.02, "final_atoms_object_file": None}


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
