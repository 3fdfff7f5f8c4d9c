"""The main flow: host -> enumerate -> predict -> relax -> record -> totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

from jobflow import Flow, Job, Maker

from definet_flows.defects import Choices, Recipe, Sampling, select_configurations
from definet_flows.errors import InputError
from definet_flows.hosts import SYMPREC, make_host
from definet_flows.schemas import DEFINET
from definet_flows.stores.opening import PATHS, StoreLike, name_of
from definet_flows.workflows.campaign.beginning import survive_parents
from definet_flows.workflows.campaign.contents import Campaign, choose_controls, configuration_ids
from definet_flows.workflows.campaign.jobs import predict_batch, prepare_host, relax_configuration, totals
from definet_flows.workflows.campaign.models import CHAMPION, champion_of, checkpoint_of
from definet_flows.workflows.campaign.prerelaxers import name_prerelaxers
from definet_flows.workflows.engines.base import Engine, resolve_engine
from definet_flows.workflows.recording.cases import settings_hash_of

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from definet_flows.schemas import Configuration

SupercellSize = Sequence[int] | Sequence[Sequence[int]] | float
"""Repetitions along a, b, c; a 3 x 3 matrix of whole numbers; or the minimum image distance, Å."""

DEFAULT_MODEL = "definet-2dmd"
"""Registry id of the model that comes with the package."""

CONFIGURATION = "configuration_id"
"""Entry in the metadata of every job that works for a single configuration."""

_PATHS = (".safetensors", *PATHS)


@dataclass
class DefectFlowMaker(Maker):
    """
    Enumerate the point defects of a host, pre-relax them with DefiNet, relax them with an engine, record all of it.

    The same flow submitted twice relaxes nothing twice: the records of the record store are reused.

    Parameters
    ----------
    name
        Name of the flows.
    supercell
        Repetitions along a, b, c, a 3 x 3 matrix of whole numbers, or the minimum image distance in Å; None: that
        of the Recipe, else the smallest with images at least 12 Å apart, of a layer in its plane.
    defects
        Names such as `v_S`, `W_Mo` or, on a given site, `v_S@12`; or Choices, with every other limit and charges; or a
        Recipe, such as `preset("2dmd-low", "MoS2")`, which brings limits, sampling and supercell.
    max_defects
        Largest number of defects in a configuration; None: 1, or the number in the Choices.
    sampling
        Random configurations by concentration (`definet_flows.Sampling`); None: every placement.
    vacuum
        Layers: set the gap to the periodic image to this many Å; None: as in the host.
    engine
        `vasp`, `gpaw`, `sevennet`, `chgnet`, `vasp-dry-run`, or an atomate2 Maker whose job relaxes the atoms at fixed
        cell.
    control_fraction
        Share, 0 to 1, of the configurations with a fit prediction that are relaxed from the unrelaxed structure
        too. Chosen by the hash of the configuration, so the choice is the same each time; above 0 at least 1.
    batch_size
        Configurations in a prediction job, which is a batch; at most 100 if you put the flow into FireWorks yourself
        (`definet launch` splits larger batches into several workflows).
    model
        The network of `definet`: registry id (of the package or of the record store), path of a `.safetensors`
        checkpoint, or `champion`: the champion of these settings in the record store.
    prerelaxer
        What proposes the starts: `definet` (the network), `fields` (displacement fields of this store's records),
        `potential:sevennet` (or another universal potential), chains such as `fields+potential:sevennet`, or `auto`
        (for each configuration by what each has saved). Several names: a relaxation from the proposal of each, beside
        one unrelaxed control.
    relax_host
        Relax the bulk supercell with the engine first; defects and displacements start from it.
    store
        Name of the record store in the settings of the machines that run the jobs, path of a `.sqlite` file, or a
        maggma Store (if neither in a `.sqlite` file nor in the settings: for jobs in this process). None: the store
        that those settings name.
    allow_unseen_host
        Accept predictions for a host that the model was not trained on. Its atoms may then start further from their
        ends than unrelaxed, and relaxations take more steps.
    symprec, dimensionality
        As in `definet_flows.make_host`.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> maker = DefectFlowMaker(supercell=(4, 4, 1), defects=("v_S", "W_Mo"), max_defects=2, engine="sevennet")
    >>> flow = maker.make("MoS2")  # doctest: +SKIP
    >>> run_locally(flow, create_folders=True)  # doctest: +SKIP
    """

    name: str = "defects"
    supercell: SupercellSize | None = None
    defects: Sequence[str] | Choices | Recipe = ()
    max_defects: int | None = None
    sampling: Sampling | None = None
    vacuum: float | None = None
    engine: str | Maker = "vasp"
    control_fraction: float = 0.1
    batch_size: int = 100
    model: str = DEFAULT_MODEL
    prerelaxer: str | Sequence[str] = DEFINET
    relax_host: bool = True
    store: str | None = None
    allow_unseen_host: bool = False
    symprec: float = SYMPREC
    dimensionality: int | None = None

    def __post_init__(self) -> None:
        """Accept a Store and paths for the names of a store and of a model, and a single pre-relaxer."""
        self.store = name_of(self.store)
        self.model = fspath(self.model)
        self.prerelaxer = (self.prerelaxer,) if isinstance(self.prerelaxer, str) else tuple(self.prerelaxer)

    def make(self, host: Structure | Atoms | str | Path) -> Flow:
        """Return the flow of a campaign: the host, then batches; its output is that of the last `totals`.

        Parameters
        ----------
        host
            A Structure or ASE's Atoms (the unit cell), a path, or the name of a shipped host.

        Raises
        ------
        InputError
            If anything is wrong with the host or the fields; nothing was written then.
        """
        return self.assemble(self.campaign(host))

    def assemble(self, campaign: Campaign, settled: Mapping[str, int] | None = None) -> Flow:
        """Return the flow of a campaign that `campaign` has returned.

        Parameters
        ----------
        campaign
            The campaign.
        settled
            Configurations that the flow leaves out, each with the number of its relaxations: nothing is left to do.
            They count in its totals.
        """
        known = settled or {}
        pairs = zip(campaign.configurations, campaign.ids, strict=True)
        left = replace(campaign, configurations=tuple(one for one, identity in pairs if identity not in known))
        stages = [stage.parts(self.batch_size) for stage in left.stages()]
        if sum(map(len, stages)) == 1 and not known:
            return self.workflow(campaign)
        prepared = self.prepared(campaign)
        batches: list[Flow] = []
        earlier: list[Flow] = []
        for parts in stages:
            made = [self._flow(part, self._batch(part, prepared, after=earlier)) for part in parts]
            batches, earlier = batches + made, made
        last = self._totals(campaign, prepared, batches=batches, settled=sum(known.values()))
        return self._flow(campaign, [prepared, *batches, last])

    def batches(self, host: Structure | Atoms | str | Path) -> list[Flow]:
        """Return a flow for each batch, each complete in itself, to be submitted as workflows of their own.

        The flow that runs first relaxes the host; flows that begin after its end reuse it. Raises as `make`.
        """
        return [self.workflow(part) for part in self.campaign(host).parts(self.batch_size)]

    def portable(self) -> DefectFlowMaker:
        """Return this Maker with absolute paths, for jobs run in folders of their own."""
        return replace(self, store=self._store, model=_portable(self.model))

    def workflow(self, part: Campaign, ahead: Sequence[Configuration] = ()) -> Flow:
        """Return the flow of a part of a campaign, complete in itself, with a single prediction job.

        Parameters
        ----------
        part
            A part that `Campaign.parts` returned.
        ahead
            Configurations of other parts that the prediction job predicts as well; their own prediction jobs then
            find them done.
        """
        prepared = self.prepared(part)
        return self._flow(part, [prepared, *self._batch(part, prepared, ahead)])

    def campaign(self, host: Structure | Atoms | str | Path) -> Campaign:
        """Return the bulk supercell, its configurations and the model, everything checked.

        Raises
        ------
        InputError
            If anything is wrong with the host or the fields.
        """
        self._check_numbers()
        size, choices, sampling = self._wanted()
        engine = resolve_engine(self.engine)
        supercell = make_host(host, size, vacuum=self.vacuum, symprec=self.symprec, dimensionality=self.dimensionality)
        configurations = tuple(select_configurations(supercell, choices, sampling))
        if not configurations:
            msg = f"defects {', '.join(choices.defects)}: no configuration of {supercell.formula} is within the limits"
            raise InputError(msg)
        engine.refuse_charges(configuration.charge for configuration in configurations)
        ids = configuration_ids(supercell, configurations)
        controls = choose_controls(ids, self.control_fraction)
        model = self._weights(engine)
        weights = checkpoint_of(model, self.store).sha256
        prerelaxers = name_prerelaxers(self.prerelaxer, model, weights)
        return Campaign(supercell, configurations, controls, weights, model, prerelaxers)

    def _weights(self, engine: Engine) -> str:
        """Return the registry id or path of the model that predicts."""
        if self.model != CHAMPION:
            return _portable(self.model)
        return champion_of(self.store, settings_hash_of(engine, relaxed_host=self.relax_host)).id

    def _check_numbers(self) -> None:
        if not 0 <= self.control_fraction <= 1:
            msg = f"control_fraction={self.control_fraction!r}: a share of the configurations, from 0 to 1"
            raise InputError(msg)
        if self.batch_size < 1 or self.batch_size != int(self.batch_size):
            msg = f"batch_size={self.batch_size!r}: a whole number of configurations, 1 or more"
            raise InputError(msg)

    def _wanted(self) -> tuple[SupercellSize | None, Choices, Sampling | None]:
        """Return the supercell (None: the default), the choices and the sampling, from each form that `defects` has."""
        if not isinstance(self.defects, Recipe):
            return self.supercell, self._choices(self.defects), self.sampling
        for name in ("max_defects", "sampling"):
            if getattr(self, name) is not None:
                msg = f"{name}={getattr(self, name)!r}: the Recipe in `defects` brings its own; drop it or give Choices"
                raise InputError(msg)
        recipe = self.defects
        return recipe.supercell if self.supercell is None else self.supercell, recipe.choices, recipe.sampling

    def _choices(self, defects: Sequence[str] | Choices) -> Choices:
        if isinstance(defects, Choices):
            if self.max_defects is None:
                return defects
            return Choices(**{**defects.model_dump(), "max_defects": self.max_defects})
        names = defects if isinstance(defects, str) else tuple(defects)
        if not names:
            msg = "defects=(): name at least 1, such as ('v_S', 'W_Mo')"
            raise InputError(msg)
        return Choices(defects=names, max_defects=self.max_defects)

    def prepared(self, campaign: Campaign) -> Job:
        """Return the job that prepares the host of a campaign, relaxed once for all campaigns on it."""
        prepared = prepare_host(campaign.host, self.engine, self._store, relax=self.relax_host)
        prepared.name = f"host {campaign.host.formula}"
        return prepared

    def _batch(
        self, part: Campaign, prepared: Job, ahead: Sequence[Configuration] = (), after: Sequence[Flow] = ()
    ) -> list[Job]:
        """Return the jobs of a batch, its totals last; they wait for the batches of the stage before."""
        predicted = predict_batch(
            prepared.output,
            part.configurations,
            model=part.model,
            weights=part.weights,
            store=self._store,
            allow_unseen_host=self.allow_unseen_host,
            ahead=tuple(ahead),
            prerelaxers=part.prerelaxers,
            engine=self.engine,
            after=[batch.output for batch in after],
        )
        if after:
            survive_parents(predicted)
        predicted.name = f"predict {len(part.ids)} of {part.host.formula}"
        relaxations = []
        for configuration, configuration_id in zip(part.configurations, part.ids, strict=True):
            relaxation = relax_configuration(
                prepared.output,
                configuration,
                engine=self.engine,
                weights=part.keys,
                store=self._store,
                control=configuration_id in part.controls,
                predicted=predicted.output,
            )
            relaxation.name = f"relax {configuration.name}"
            relaxation.update_metadata({CONFIGURATION: configuration_id})
            relaxations.append(survive_parents(relaxation))
        return [predicted, *relaxations, self._totals(part, prepared, relaxed=relaxations)]

    def _totals(
        self,
        campaign: Campaign,
        prepared: Job,
        *,
        relaxed: Sequence[Job] = (),
        batches: Sequence[Flow] = (),
        settled: int = 0,
    ) -> Job:
        left_out = [{"relaxations_run": 0, "relaxations_reused": settled}] if settled else []
        return survive_parents(
            totals(
                campaign.ids,
                pristine=prepared.output,
                engine=self.engine,
                relax_host=self.relax_host,
                weights=campaign.keys,
                store=self._store,
                relaxed=[job.output for job in relaxed],
                batches=[*(batch.output for batch in batches), *left_out],
            )
        )

    @property
    def _store(self) -> str | None:
        return None if self.store is None else _portable(self.store)

    def _flow(self, campaign: Campaign, jobs: Sequence[Job | Flow]) -> Flow:
        """Return the flow of jobs; the last job is the totals."""
        name = f"{self.name} {campaign.host.formula} ({len(campaign.ids)})"
        return Flow(list(jobs), output=jobs[-1].output, name=name)


def _portable(name: str) -> str:
    """Return a path in absolute form, for jobs run in folders of their own; any other name as it is."""
    return str(Path(name).expanduser().absolute()) if name.endswith(_PATHS) else name


def defect_flow(  # noqa: PLR0913 - the fields of DefectFlowMaker, spelled out so that a typing error is refused
    host: Structure | Atoms | str | Path,
    *,
    supercell: SupercellSize | None = None,
    defects: Sequence[str] | Choices | Recipe,
    max_defects: int | None = None,
    sampling: Sampling | None = None,
    vacuum: float | None = None,
    engine: str | Maker = "vasp",
    control_fraction: float = 0.1,
    batch_size: int = 100,
    model: str = DEFAULT_MODEL,
    prerelaxer: str | Sequence[str] = DEFINET,
    relax_host: bool = True,
    store: StoreLike | None = None,
    allow_unseen_host: bool = False,
    symprec: float = SYMPREC,
    dimensionality: int | None = None,
) -> Flow:
    """Return the flow that enumerates, pre-relaxes, relaxes and records the defects of a host.

    Parameters
    ----------
    host
        A Structure or ASE's Atoms (the unit cell), a path, or the name of a shipped host such as "MoS2".
    supercell, defects, max_defects, sampling, vacuum, engine, control_fraction, batch_size, model, prerelaxer, \
    relax_host, store,     allow_unseen_host, symprec, dimensionality
        As in `DefectFlowMaker`.

    Raises
    ------
    InputError
        If anything is wrong with the host or the arguments; nothing was written then.

    Examples
    --------
    >>> from jobflow import run_locally
    >>> flow = defect_flow("MoS2", supercell=(4, 4, 1), defects=("v_S",), engine="sevennet")  # doctest: +SKIP
    >>> run_locally(flow, create_folders=True)  # doctest: +SKIP
    """
    maker = DefectFlowMaker(
        supercell=supercell,
        defects=defects,
        max_defects=max_defects,
        sampling=sampling,
        vacuum=vacuum,
        engine=engine,
        control_fraction=control_fraction,
        batch_size=batch_size,
        model=model,
        prerelaxer=prerelaxer,
        relax_host=relax_host,
        store=name_of(store),
        allow_unseen_host=allow_unseen_host,
        symprec=symprec,
        dimensionality=dimensionality,
    )
    return maker.make(host)
