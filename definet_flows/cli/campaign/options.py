"""The options of a campaign, stated once for every command that has them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from definet_flows.cli import options
from definet_flows.cli.campaign.engine import chosen_engine
from definet_flows.cli.campaign.recipe import read_recipe

if TYPE_CHECKING:
    from definet_flows.workflows import DefectFlowMaker


@dataclass(frozen=True)
class CampaignOptions:
    """Options of `definet run` that a campaign is made of; their types carry their help."""

    host: options.Host
    supercell: options.SupercellOption = None
    min_image: options.MinImage = None
    vacuum: options.Vacuum = None
    symprec: options.Symprec = options.SYMPREC
    dimensionality: options.Dimensionality = None
    defect: options.Defect = field(default_factory=list)
    min_defects: options.MinDefects = 1
    max_defects: options.MaxDefects = None
    max_on: options.MaxOn = field(default_factory=list)
    max_kind: options.MaxKind = field(default_factory=list)
    min_distance: options.MinDistance = None
    max_distance: options.MaxDistance = None
    charge: options.Charge = field(default_factory=list)
    concentration: options.Concentration = field(default_factory=list)
    per_concentration: options.PerConcentration = None
    seed: options.Seed = 0
    preset: options.Preset = None
    engine: Annotated[str, typer.Option(help="vasp, gpaw, sevennet, chgnet or vasp-dry-run.")] = "vasp"
    incar: options.IncarTags = field(default_factory=list)
    kpoints: options.KpointMesh = None
    control_fraction: Annotated[
        float, typer.Option(help="Share of configurations relaxed from the unrelaxed start too, 0 to 1.")
    ] = 0.1
    batch_size: Annotated[
        int | None, typer.Option(help="Configurations in a prediction job.  \\[default: 100; in launch 500]")
    ] = None
    model: options.CampaignModel = None
    prerelaxer: options.PreRelaxers = field(default_factory=list)
    relax_host: Annotated[
        bool, typer.Option("--relax-host/--no-relax-host", help="Relax the bulk supercell first.")
    ] = True
    allow_unseen_host: Annotated[
        bool,
        typer.Option(
            "--allow-unseen-host",
            help="Accept predictions for a host that the weights never saw. Risk: atoms may start further from their "
            "relaxed positions than without prediction, and relaxations take more steps.",
        ),
    ] = False
    store: options.Store = None

    def maker(self, batch_size: int = 100) -> DefectFlowMaker:
        """Return the Maker that the options ask for.

        Parameters
        ----------
        batch_size
            Value if the option was not given.

        Raises
        ------
        InputError
            If an option is malformed or missing, or two options exclude each other.
        """
        from definet_flows.workflows import DefectFlowMaker

        choices = set(inspect.signature(read_recipe).parameters) - {"host"}
        recipe = read_recipe(self.host, **{name: getattr(self, name) for name in choices})
        return DefectFlowMaker(
            defects=recipe,
            vacuum=self.vacuum,
            symprec=self.symprec,
            dimensionality=self.dimensionality,
            engine=chosen_engine(self.engine, self.incar, self.kpoints),
            control_fraction=self.control_fraction,
            batch_size=self.batch_size or batch_size,
            model=self.model or options.DEFAULT_MODEL,
            prerelaxer=tuple(self.prerelaxer) or ("definet" if self.model else "auto"),
            relax_host=self.relax_host,
            store=self.store,
            allow_unseen_host=self.allow_unseen_host,
        )


def campaign_command(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose first parameter, a CampaignOptions, is given on the command line as its options.

    typer reads a command's parameters off its signature, so the signature is put together from both.
    """
    hints = {
        name: get_type_hints(options, include_extras=True)
        for name, options in (("", CampaignOptions), ("own", command))
    }
    shared = [_parameter(option.name, hints[""][option.name], _default(option)) for option in fields(CampaignOptions)]
    own = list(inspect.signature(command).parameters.values())[1:]
    parameters = [*shared, *(_parameter(option.name, hints["own"][option.name], option.default) for option in own)]

    @functools.wraps(command)
    def with_options(**values: Any) -> None:  # noqa: ANN401 - typer passes the parameters of the signature below, nothing else
        given = {option.name: values.pop(option.name) for option in shared}
        command(CampaignOptions(**given), **values)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _default(option: Any) -> Any:  # noqa: ANN401 - any type of an option
    if option.default is not MISSING:
        return option.default
    return inspect.Parameter.empty if option.default_factory is MISSING else option.default_factory()


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:  # noqa: ANN401 - as above
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
