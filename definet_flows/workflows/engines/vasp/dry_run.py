"""The engine `vasp-dry-run`: everything that the engine `vasp` does, with a potential in the place of VASP.

Its input set says so: its settings hash differs from that of VASP, and `examples/dry_run/vasp_std` runs nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.workflows.engines.vasp.maker import VaspDefectRelaxMaker, VaspDefectSetGenerator

if TYPE_CHECKING:
    from jobflow import Maker

DRY_RUN = "dry run: no DFT was done"
"""The title (SYSTEM) of every INCAR of a dry run."""


def dry_run_maker() -> VaspDefectRelaxMaker:
    """Return a Maker whose inputs are those of the engine `vasp`, but for the title, and need no POTCARs."""
    return VaspDefectRelaxMaker(
        name="vasp dry run",
        input_set_generator=VaspDefectSetGenerator(user_incar_settings={"SYSTEM": DRY_RUN}),
        write_input_set_kwargs={"apply_incar_updates": False, "potcar_spec": True},
    )


def is_dry_run(maker: Maker) -> bool:
    """Say whether a Maker writes inputs of a dry run."""
    if not isinstance(maker, VaspDefectRelaxMaker):
        return False
    return maker.input_set_generator.user_incar_settings.get("SYSTEM") == DRY_RUN
