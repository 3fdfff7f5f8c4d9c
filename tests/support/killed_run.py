"""A campaign on this machine, in a process to be killed; its argument is the folder of its jobs.

The second relaxation hangs for a minute where a file `slow` lies in the folder that it was started in. Prints
`relaxing` when a relaxation begins, and `ended FIGURES` with what the totals say.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

from atomate2.ase.jobs import EmtRelaxMaker
from flow_helpers import CU, RELAX

from definet_flows import DefectFlowMaker
from definet_flows.workflows.campaign.local import run_here

BEGUN = []


@dataclasses.dataclass
class Relax(EmtRelaxMaker):
    def run_ase(self, mol_or_struct, prev_dir=None):
        BEGUN.append(mol_or_struct)
        print("relaxing", flush=True)
        if Path("../../slow").exists() and len(BEGUN) == 2:
            time.sleep(60)
        return super().run_ase(mol_or_struct, prev_dir=prev_dir)


def main(folder: str) -> None:
    maker = DefectFlowMaker(
        supercell=(2, 2, 2),
        defects=("v_Cu",),
        engine=Relax(relax_cell=False, relax_kwargs=RELAX),
        control_fraction=1,
        model="small.safetensors",
        store="records.sqlite",
        relax_host=False,
    )
    totals = run_here(maker.make(CU), Path(folder), lambda *_: None)
    print("ended", json.dumps({key: totals[key] for key in ("relaxations_run", "relaxations_reused")}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
