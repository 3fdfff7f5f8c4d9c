"""The check of a campaign before anything is submitted: its work, and the faults that would stop it."""

from __future__ import annotations

import json
import shlex
import shutil
import warnings
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, cast

import definet_flows.workflows._jobflow  # noqa: F401 - first: it reads jobflow's settings

import atomate2
import jobflow
import numpy as np
from atomate2.vasp.jobs.base import BaseVaspMaker
from monty.json import jsanitize
from pymatgen.core import Element
from pymatgen.io.vasp import PotcarSingle

from definet_flows.defects import nodes
from definet_flows.errors import InputError
from definet_flows.hosts import to_structure
from definet_flows.hosts.cell import near_images
from definet_flows.hosts.layer import VACUUM_WARNING, layer_gap
from definet_flows.schemas import AUTO, DEFINET, VACANCY, dump
from definet_flows.starts.proposals import Proposal
from definet_flows.stores import open_store
from definet_flows.stores.analysis.expected import expected
from definet_flows.stores.durability import require_lasting, volatile
from definet_flows.workflows.campaign.models import checkpoint_of
from definet_flows.workflows.campaign.outputs import job_store_fault
from definet_flows.workflows.campaign.secrets import exposed
from definet_flows.workflows.engines.base import Engine, resolve_engine
from definet_flows.workflows.engines.gpaw import GpawRelaxMaker
from definet_flows.workflows.engines.vasp.dry_run import DRY_RUN, is_dry_run
from definet_flows.workflows.engines.vasp.inputs import odd_electrons
from definet_flows.workflows.engines.vasp.maker import VaspDefectSetGenerator
from definet_flows.workflows.engines.vasp.settings import mesh_of
from definet_flows.workflows.queue.routing import DEFAULT_PLACEMENT, Placement
from definet_flows.workflows.recording.cases import PlannedConfiguration, Pristine, settings_hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ase import Atoms
    from atomate2.vasp.sets.base import VaspInputGenerator
    from maggma.core import Store
    from pymatgen.core import Structure

    from definet_flows.schemas import Host
    from definet_flows.workflows.campaign.contents import Campaign
    from definet_flows.workflows.campaign.flow import DefectFlowMaker

KSPACING = 0.3
"""1/Å, with the factor 2 pi as VASP's own KSPACING; Γ alone is warned of where it is coarser."""

_LAYER = 2
_LARGE = 30_000  # bytes; the limit for a record of 192 sites
_LIMIT = 16_777_216  # bytes; MongoDB's largest document
_RESULT = (9_000, 1_800)  # bytes, and bytes per atom, of a TaskDoc: seven structures, no ionic steps
_FRAME = 130  # bytes per atom: six numbers of a trajectory's frame
_SHOWN = 4  # kinds that a line names
_HIDDEN = ("MAGMOM", "LDIPOL", "IDIPOL", "NELECT")  # by structure, shown in lines of their own

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class CheckLine:
    """A line of the check: its subject, the finding, and its level."""

    subject: str
    text: str
    level: Level = "ok"


def preflight(
    maker: DefectFlowMaker,
    host: Structure | Atoms | str | Path,
    placement: Placement = DEFAULT_PLACEMENT,
    files: Iterable[Path] = (),
) -> list[CheckLine]:
    """Return the lines of the check of a campaign on this machine; no job runs, no record is written.

    Parameters
    ----------
    maker
        The campaign's choices.
    host
        As in `DefectFlowMaker.make`.
    placement
        Which worker runs which kind of job where the campaign is launched into a queue.
    files
        Files of settings, such as that of the placement; those that are always read are looked at anyway.

    Raises
    ------
    InputError
        If host, defects or engine are refused as such: there is no campaign to look at then.
    """
    campaign, engine = maker.campaign(host), resolve_engine(maker.engine)
    lines = [*_host(campaign.host), *_configurations(campaign, engine)]
    if isinstance(engine.maker, BaseVaspMaker):
        lines += [*_settings(campaign, engine), *_potcars(campaign, engine), *_programs()]
    if isinstance(engine.maker, GpawRelaxMaker):
        lines += list(_gpaw(engine.maker, engine))
    lines += [*_stores(maker, engine), *_workers(placement), *_starts(maker, campaign, engine)]
    lines += list(_model(maker, campaign))
    lines += [CheckLine("password", text, "warn") for text in exposed(files)]
    return lines


def _host(host: Host) -> Iterator[CheckLine]:
    provenance = host.provenance
    yield CheckLine("host", f"{host.formula}, {host.n_sites} sites, {host.dimensionality}-dimensional")
    source, functional = provenance.get("source"), provenance.get("functional")
    text = f"{provenance.get('unit_cell', '?')}; source: {source or 'unknown'}; functional: {functional or 'unknown'}"
    yield CheckLine("lattice", text, "ok" if functional and "PBE" in functional else "warn")
    higher = provenance.get("higher_symmetry")
    symmetry = provenance.get("symmetry", "?")
    yield CheckLine("symmetry", f"{symmetry}; {higher}: --symprec" if higher else symmetry, "warn" if higher else "ok")
    lengths = np.linalg.norm(np.array(host.lattice), axis=1)
    yield CheckLine("cell", " x ".join(f"{length:.2f}" for length in lengths) + " Å")
    if chosen := provenance.get("supercell"):
        yield CheckLine("supercell", chosen)
    if near := near_images(host):
        yield CheckLine("images", near, "warn")
    if host.dimensionality == _LAYER:
        gap = host.vacuum or 0.0
        yield CheckLine("vacuum", f"{gap:.1f} Å", "ok" if gap >= VACUUM_WARNING - 1e-6 else "warn")


def _configurations(campaign: Campaign, engine: Engine) -> Iterator[CheckLine]:
    count, controls = len(campaign.ids), len(campaign.controls)
    text = f"{_counted(count, 'configuration')}, {controls} from the unrelaxed start too: {_relaxations(campaign)}"
    yield CheckLine("campaign", text, "ok" if controls else "warn")
    yield from _documents(campaign, engine)


def _documents(campaign: Campaign, engine: Engine) -> Iterator[CheckLine]:
    """Estimate the size of the documents of a relaxation: record, job, and the engine's result."""
    pristine = Pristine(host=campaign.host, base=campaign.host.cartesian, source="as given")
    planned = PlannedConfiguration(pristine, campaign.configurations[0], engine, campaign.weights, None)
    record = planned.running("unrelaxed", "0" * 36)
    assert record.sites is not None  # noqa: S101 - `PlannedConfiguration.running` gives every record its table
    table = record.sites.unrelaxed
    whole = record.sites.model_copy(update={"predicted": table, "relaxed": table})
    size = len(json.dumps(dump(record.model_copy(update={"sites": whole}))))
    yield CheckLine("record", f"about {_kilobytes(size)} each", "ok" if size < _LARGE else "warn")
    job = len(json.dumps(jsanitize(engine.relaxation(planned.structure("unrelaxed"), record.id), strict=True)))
    text = f"{_kilobytes(job)} for each relaxation's job"
    if not isinstance(engine.maker, BaseVaspMaker):
        yield CheckLine("documents", text)
        return
    fixed, per_atom = _RESULT
    result = fixed + per_atom * record.sites.n_atoms
    text += f", about {_kilobytes(result)} for its result in the job store"
    if getattr(engine.maker, "store_trajectory", False):
        text += f", and {_kilobytes(_FRAME * record.sites.n_atoms)} for each ionic step in its store 'data'"
    yield CheckLine("documents", text, "ok" if max(job, result) < _LIMIT / 2 else "warn")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _kilobytes(size: float) -> str:
    return f"{size / 1000:.0f} kB"


def _gpaw(maker: GpawRelaxMaker, engine: Engine) -> Iterator[CheckLine]:
    basis = f"plane waves of {maker.cutoff:g} eV" if maker.mode == "pw" else "atomic orbitals, dzp"
    yield CheckLine("functional", f"{maker.xc}, {basis}, Γ alone, Fermi-Dirac {maker.smearing:g} eV")
    yield CheckLine("grid", f"at most {maker.grid_spacing:g} Å between points")
    yield CheckLine("moments", "1 μB on the defect and its first shell if the electrons are odd, else no spin")
    yield CheckLine("program", "; ".join(f"{name} {value[:12]}" for name, value in maker.identity().items()))
    yield CheckLine("settings", engine.settings_hash)


# ------------------------------------------------------------------ VASP


def _settings(campaign: Campaign, engine: Engine) -> Iterator[CheckLine]:
    generator = engine.maker.input_set_generator  # type: ignore[attr-defined]  # a VASP Maker
    tags: dict[str, Any] = {**generator.config_dict.get("INCAR", {}), **generator.user_incar_settings}
    functional = {"PE": "PBE", "PS": "PBEsol"}.get(str(tags.get("GGA", "PE")).upper(), str(tags.get("GGA")))
    yield CheckLine("functional", f"{functional}, POTCARs {generator.config_dict.get('POTCAR_FUNCTIONAL')}")
    yield CheckLine("INCAR", " ".join(f"{name}={tags[name]}" for name in sorted(tags) if name not in _HIDDEN))
    if isinstance(generator, VaspDefectSetGenerator):
        yield _moments(campaign, generator, spin=tags.get("ISPIN") != 1)
        rattle = f"{generator.rattle:g} Å, seed {generator.rattle_seed}" if generator.rattle else "none"
        yield CheckLine("rattle", rattle)
        yield _kpoints(campaign.host, mesh_of(generator))
    yield CheckLine("settings", engine.settings_hash)


def _moments(campaign: Campaign, generator: VaspDefectSetGenerator, *, spin: bool) -> CheckLine:
    """Say which kinds start with a moment; their electrons are counted without POTCAR files."""
    if spin and generator.spin != "parity":
        return CheckLine("MAGMOM", "magnetic ions high-spin, ferromagnetic")
    odd = {}
    for configuration in campaign.configurations:
        kind = f"{configuration.name} {configuration.charge:+d}" if configuration.charge else configuration.name
        if kind not in odd:
            numbers, markers = nodes(campaign.host, configuration)
            symbols = [Element.from_Z(int(number)).symbol for number in numbers[markers != VACANCY]]
            odd[kind] = odd_electrons(symbols, configuration.charge, _potcar_names(generator))
    found = [kind for kind, is_odd in odd.items() if is_odd]
    shown = f" ({', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''})" if found else ""
    rule = "1 μB on the defect and its first shell if the electrons are odd, else 0" if spin else "none, for ISPIN=1"
    text = f"{rule}; odd: {len(found)} of {_counted(len(odd), 'kind')}{shown}"
    return CheckLine("MAGMOM", text, "ok" if spin or not found else "warn")


def _potcar_names(generator: VaspInputGenerator) -> dict[str, str]:
    """Return the POTCAR of each element that the input set names."""
    return {**generator.config_dict["POTCAR"], **generator.user_potcar_settings}


def _kpoints(host: Host, mesh: tuple[int, int, int] | None = (1, 1, 1)) -> CheckLine:
    """Judge a mesh around Γ by the spacing it stands for along each periodic direction; None: not a mesh around Γ."""
    if mesh is None:
        return CheckLine("k-points", "by user_kpoints_settings of the Maker")
    structure = to_structure(host)
    lengths = list(structure.lattice.reciprocal_lattice.abc)
    if host.dimensionality == _LAYER:
        lengths[layer_gap(structure)[0]] = 0.0
    widest = max(length / count for length, count in zip(lengths, mesh, strict=True))
    text = f"{'Γ alone' if mesh == (1, 1, 1) else ' x '.join(map(str, mesh))}: {widest:.2f} 1/Å"
    if widest <= KSPACING:
        return CheckLine("k-points", text)
    finer = " ".join(str(max(1, ceil(length / KSPACING))) for length in lengths)
    return CheckLine("k-points", f"{text}, coarser than {KSPACING} 1/Å: --kpoints {finer} (vasp_std)", "warn")


def _potcars(campaign: Campaign, engine: Engine) -> Iterator[CheckLine]:
    if is_dry_run(engine.maker):
        yield CheckLine("POTCAR", f"none is needed; {DRY_RUN}", "warn")
        return
    generator = engine.maker.input_set_generator  # type: ignore[attr-defined]  # a VASP Maker
    functional = str(generator.config_dict.get("POTCAR_FUNCTIONAL"))
    placed = {
        edit.new for configuration in campaign.configurations for edit in configuration.edits if edit.new is not None
    }
    for number in sorted({*campaign.host.numbers, *placed}):
        element = Element.from_Z(number).symbol
        symbol = str(_potcar_names(generator).get(element, element))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the check has its own line for a POTCAR that pymatgen does not know
                found = PotcarSingle.from_symbol_and_functional(symbol, functional)
                known = found.is_valid
        except (ValueError, OSError):
            remedy = "set PMG_VASP_PSP_DIR in ~/.config/.pmgrc.yaml"
            yield CheckLine("POTCAR", f"{symbol} of {functional} is missing: {remedy}", "fail")
            continue
        text = f"{found.TITEL}, {found.nelectrons:g} electrons"
        yield CheckLine("POTCAR", text if known else f"{text}; not known to pymatgen", "ok" if known else "warn")


def _programs() -> Iterator[CheckLine]:
    standard, gamma = shlex.split(atomate2.SETTINGS.VASP_CMD), shlex.split(atomate2.SETTINGS.VASP_GAMMA_CMD)
    missing = [word for word in dict.fromkeys((standard[0], standard[-1])) if shutil.which(word) is None]
    if missing:
        text = f"{missing[0]} is not on PATH of this machine (ATOMATE2_VASP_CMD={' '.join(standard)})"
        yield CheckLine("program", text, "fail")
        return
    has_gamma = shutil.which(gamma[-1]) is not None
    text = " ".join(gamma) if has_gamma else f"{' '.join(standard)}: {gamma[-1]} is not on PATH, Γ costs twice as much"
    yield CheckLine("program", text, "ok" if has_gamma else "warn")


# ------------------------------------------------------------------ around it


def _stores(maker: DefectFlowMaker, engine: Engine) -> Iterator[CheckLine]:
    try:
        with open_store(maker.store) as records:  # for writing: permissions, a lock, and whether it keeps anything
            count = sum(1 for _ in records.ledgers())
            yield CheckLine("records", f"{records.location}: {_counted(count, 'record')}, can be written")
    except InputError as error:
        yield CheckLine("records", str(error), "fail")
    except Exception as error:  # noqa: BLE001 - a driver's message may quote a password
        yield CheckLine("records", f"{type(error).__name__} on writing: check the user's role in the database", "fail")
    if fault := job_store_fault():
        text = f"{fault}: a run on this machine keeps journals in its folder, a queue refuses"
        yield CheckLine("job store", text, "warn")
    else:
        yield _attempt("job store", lambda: _job_store(engine))


def _job_store(engine: Engine) -> str:
    store = jobflow.SETTINGS.JOB_STORE
    if volatile(store.docs_store):
        return "none is configured: a run on this machine keeps SQLite files in its folder"
    extra: dict[str, Store] = store.additional_stores  # type: ignore[has-type]  # jobflow annotates none
    if getattr(engine.maker, "store_trajectory", False) and "data" not in extra:
        msg = "it has no additional store 'data', where trajectories go: name it in jobflow's settings"
        raise InputError(msg)
    docs = store.docs_store
    store.connect()
    try:
        count = store.count()
        require_lasting(docs, lambda: _unconnected(docs), "the job store", key="uuid")
    finally:
        store.close()  # type: ignore[no-untyped-call]
    return f"{store.name}: {_counted(count, 'document')}, can be written"


def _unconnected(store: Store) -> Store:
    """Return the same store with no connection yet; its password stays in memory."""
    return cast("Store", type(store).from_dict(store.as_dict()))


def _attempt(subject: str, look: Callable[[], str]) -> CheckLine:
    try:
        return CheckLine(subject, look())
    except InputError as error:
        return CheckLine(subject, str(error), "fail")
    except Exception as error:  # noqa: BLE001 - a driver's message may quote a password
        return CheckLine(subject, f"{type(error).__name__} on connecting or writing: see jobflow's settings", "fail")


def _workers(placement: Placement) -> Iterator[CheckLine]:
    yield CheckLine("workers", "`definet run`: this machine")
    for kind, jobs in (("predict", "predictions"), ("relax", "relaxations"), ("light", "bookkeeping")):
        place = getattr(placement, kind)
        worker = f"; worker {place.worker} of jobflow-remote" if place.worker else ""
        yield CheckLine("queue", f"{jobs}: FireWorks category {place.category}{worker}")


def _relaxations(part: Campaign) -> str:
    """Return how many relaxations a campaign or a stage of it needs: a proposal that is rejected saves its own."""
    most = len(part.ids) * len(part.keys) + len(part.controls.intersection(part.ids))
    return f"{'at most ' * (len(part.keys) > 1)}{_counted(most, 'relaxation')}"


def _starts(maker: DefectFlowMaker, campaign: Campaign, engine: Engine) -> Iterator[CheckLine]:
    """Yield who proposes the starts, the stages of a campaign whose starts learn, and what each may save."""
    yield CheckLine("starts", ", ".join(named.name for named in campaign.prerelaxers))
    stages = campaign.stages()
    for stage in stages:
        sizes = {len(configuration.edits) for configuration in stage.configurations}
        if len(stages) > 1:
            kind = _counted(min(sizes), "defect") + (" and more" if len(sizes) > 1 else "")
            controls = len(campaign.controls.intersection(stage.ids))
            count = _counted(len(stage.ids), "configuration")
            text = f"{kind}: {count}, {controls} with a control, {_relaxations(stage)}"
            yield CheckLine("stage", text)
        yield from _expected(maker, stage, engine, min(sizes) if len(sizes) == 1 else None)


def _expected(maker: DefectFlowMaker, stage: Campaign, engine: Engine, n_defects: int | None) -> Iterator[CheckLine]:
    """Yield the steps that each pre-relaxer may save in a stage, by the pairs in the store."""
    settings_hash = settings_hash_of(engine, relaxed_host=maker.relax_host)
    keys = None if AUTO in stage.keys else stage.keys
    try:
        with open_store(maker.store, read_only=True) as records:
            found = expected(records, stage.host.formula, settings_hash, keys, stage.weights, n_defects)
    except InputError:
        return  # the line of the records says why
    for one in found:
        yield CheckLine("expected", one.text(len(stage.ids)))
    if not found:
        text = f"unknown: no pair of {stage.host.formula} with these settings and pre-relaxers is in the store"
        yield CheckLine("expected", text if stage.controls else f"{text}, and no control would make one")


def _model(maker: DefectFlowMaker, campaign: Campaign) -> Iterator[CheckLine]:
    names = {part for named in campaign.prerelaxers for part in named.name.split("+")}
    if not names & {AUTO, DEFINET}:
        return
    from definet_flows.starts.gate import judge  # noqa: PLC0415 - torch takes seconds to import

    checkpoint = checkpoint_of(campaign.model, maker.store)
    yield CheckLine("model", f"{campaign.model}, sha256 {checkpoint.sha256[:12]}…")
    still = np.zeros((campaign.host.n_sites, 3))
    raw = Proposal(still)
    kinds = {configuration.name: configuration for configuration in campaign.configurations}
    refused = {}
    host = campaign.host
    for name, configuration in kinds.items():
        gate = judge(checkpoint, host, configuration, host.cartesian, raw, allow_unseen_host=maker.allow_unseen_host)
        if not gate.in_domain:
            refused[name] = gate.reason
    if refused:
        name, reason = next(iter(refused.items()))
        instead = "the network proposes nothing there" if names - {DEFINET} else "relaxed without prediction"
        text = f"outside: {len(refused)} of {_counted(len(kinds), 'kind')}, {instead}; {name}: {reason}"
        yield CheckLine("domain", text, "ok" if names - {DEFINET} else "warn")
    else:
        yield CheckLine("domain", f"inside: {_counted(len(kinds), 'kind')} of configurations")
