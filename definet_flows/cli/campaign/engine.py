"""The engine that options name, with the user's own INCAR tags and k-points, and the inputs that it would be given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.cli.app import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from jobflow import Maker
    from pymatgen.core import Structure

    from definet_flows.workflows import DefectFlowMaker
    from definet_flows.workflows.campaign.contents import Campaign
    from definet_flows.workflows.engines.base import Engine

HOST_FOLDER = "host"


def chosen_engine(name: str, incar: Sequence[str], kpoints: tuple[str, str, str] | None) -> str | Maker:
    """Return the engine of --engine, --incar and --kpoints: its name, or its Maker with these settings.

    Raises
    ------
    InputError
        An option that is malformed, or that the engine does not know.
    """
    if not incar and kpoints is None:
        return name
    from definet_flows.workflows.engines.base import resolve_engine
    from definet_flows.workflows.engines.vasp.settings import read_incar, read_kpoints, with_settings

    tags, mesh = read_incar(incar), None if kpoints is None else read_kpoints(kpoints)
    return with_settings(resolve_engine(name).maker, name, tags, mesh)


def write_campaign_inputs(maker: DefectFlowMaker, host: str, folder: Path) -> None:
    """Write the inputs of the unrelaxed start of each configuration, and of the host; nothing runs.

    Raises
    ------
    InputError
        An engine without input files, a folder that is there, or whatever is wrong with the campaign.
    """
    from definet_flows.workflows.engines.base import resolve_engine
    from definet_flows.workflows.engines.vasp.writing import require_inputs, write_inputs

    engine = resolve_engine(maker.engine)
    require_inputs(engine, folder)
    campaign = maker.campaign(host)
    written = write_inputs(folder, engine, _structures(campaign, engine, with_host=maker.relax_host))
    console.print(
        f"inputs of {written} relaxations written to {folder}; nothing was run", soft_wrap=True, highlight=False
    )
    base = "the host as given; in a run it is the relaxed host" if maker.relax_host else "the host as given"
    console.print(
        f"POSCAR: the unrelaxed start in {base}. A predicted start differs in POSCAR alone.",
        soft_wrap=True,
        highlight=False,
    )


def _structures(campaign: Campaign, engine: Engine, *, with_host: bool) -> Iterator[tuple[str, Structure]]:
    """Yield the name of the folder of each relaxation, and its structure as the engine gets it."""
    from definet_flows.defects.labels import charged_label, file_names, site_labels
    from definet_flows.hosts import to_structure
    from definet_flows.workflows.recording.cases import PlannedConfiguration, Pristine

    host = campaign.host
    pristine = Pristine(host=host, base=host.cartesian, source="as given")
    if with_host:
        yield HOST_FOLDER, to_structure(host)
    labels = site_labels(host)
    named = [charged_label(configuration, labels) for configuration in campaign.configurations]
    for configuration, name in zip(campaign.configurations, file_names(named, campaign.ids), strict=True):
        planned = PlannedConfiguration(pristine, configuration, engine, campaign.weights, None)
        yield name, planned.structure("unrelaxed")
