"""What a model learned, and whether a configuration lies within it: hosts, elements, charge, kinds of defects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from pymatgen.core import Element, Structure

from definet_flows.defects import nodes
from definet_flows.hosts import to_structure
from definet_flows.hosts.layer import with_height
from definet_flows.model.inference.checkpoint import Card, UnitCell
from definet_flows.schemas import INSERTED, Configuration, Host

_LAYER = 2
_LAYER_HEIGHT = 40.0  # Å; layers are compared in cells of the same height, whatever their vacuum


def outside(card: Card, host: Host, configuration: Configuration, *, allow_unseen_host: bool) -> Iterator[str]:
    """Say in what a configuration lies outside of what the model learned."""
    if not card.config.inserted and any(edit.marker == INSERTED for edit in configuration.edits):
        yield "inserted atoms are unknown to the network"
    if configuration.charge and not card.config.charges:
        yield f"charge {configuration.charge:+d}: the network learned neutral cells"
    if not card.domain_known:
        if not allow_unseen_host:
            yield "the weights' training domain is unknown"
        return
    unseen = sorted(set(nodes(host, configuration)[0].tolist()) - set(card.elements))
    if unseen:
        yield f"element {', '.join(Element.from_Z(z).symbol for z in unseen)} never seen in training"
    if knows_host(card.hosts, host):
        yield from _unlearned(card, host, configuration)
    elif not allow_unseen_host:
        known = ", ".join(dict.fromkeys(unit.formula for unit in card.hosts))
        yield f"host {host.formula} is none of those trained on ({known})"
    elif configuration.charge:
        yield f"charge {configuration.charge:+d}: never learned in host {host.formula}"


def _unlearned(card: Card, host: Host, configuration: Configuration) -> Iterator[str]:
    """Say which kinds of defects a network that knows charges or inserted atoms did not learn in this charge."""
    if not (card.config.charges or card.config.inserted):
        return  # of neutral substitutions and vacancies the elements decide
    for kind in sorted({edit.name for edit in configuration.edits}):
        charges = sorted(seen.charge for seen in card.learned if (seen.host, seen.kind) == (host.formula, kind))
        if not charges:
            yield f"{kind} never seen in training in host {host.formula}"
        elif configuration.charge not in charges:
            asked, *listed = (f"{charge:+d}" if charge else "0" for charge in (configuration.charge, *charges))
            yield f"{kind} in charge {asked} never seen in training, only in {', '.join(listed)}"


def knows_host(units: tuple[UnitCell, ...], host: Host) -> bool:
    """Say whether a host is among these, compared by structure."""
    return _seen(units, host.model_dump_json())


@lru_cache(maxsize=64)
def _seen(hosts: tuple[UnitCell, ...], host_json: str) -> bool:
    """Compare by structure: primitive cells, lattice constants within 3 %, whatever the vacuum."""
    from pymatgen.analysis.structure_matcher import StructureMatcher  # noqa: PLC0415 - loads scipy.optimize

    host = Host.model_validate_json(host_json)
    matcher = StructureMatcher(ltol=0.03, stol=0.1, angle_tol=2, primitive_cell=False, scale=False)
    primitive = _comparable(to_structure(host), host.dimensionality)
    return any(
        unit.dimensionality == host.dimensionality
        and matcher.fit(primitive, _comparable(_unit_structure(unit), unit.dimensionality))
        for unit in hosts
    )


def _unit_structure(unit: UnitCell) -> Structure:
    return Structure(unit.lattice, np.array(unit.numbers).tolist(), np.array(unit.frac_coords))


def _comparable(structure: Structure, dimensionality: int) -> Structure:
    """Return the primitive cell; a layer in a cell of one fixed height."""
    if dimensionality == _LAYER:
        structure = with_height(structure, _LAYER_HEIGHT)
    return structure.get_primitive_structure(tolerance=0.1)


def unit_cell(host: Host) -> UnitCell:
    """Return the primitive cell that a card keeps of a training host."""
    primitive = to_structure(host).get_primitive_structure(tolerance=0.1)
    return UnitCell(
        formula=host.formula,
        lattice=tuple(map(tuple, primitive.lattice.matrix.round(6).tolist())),
        numbers=primitive.atomic_numbers,
        frac_coords=tuple(map(tuple, primitive.frac_coords.round(6).tolist())),
        dimensionality=host.dimensionality,
    )
