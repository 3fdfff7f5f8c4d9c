"""Pre-relaxers by the names that users give: their keys, and how each is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.schemas import AUTO, DEFINET, FIELDS, content_hash
from definet_flows.starts.network import NetworkPreRelaxer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ase import Atoms
    from pymatgen.core import Structure

    from definet_flows.model.inference.checkpoint import Card, Checkpoint
    from definet_flows.starts.proposals import Evidence, PreRelaxer
    from definet_flows.stores.opening import StoreLike

POTENTIAL = "potential:"
"""Beginning of the name of every potential."""

_CHAIN = "+"
_EACH = f"{DEFINET}, {FIELDS}, {POTENTIAL}sevennet, or a chain such as {FIELDS}{_CHAIN}{POTENTIAL}sevennet"


def key_of(name: str, weights: str) -> str:
    """Return the key of a pre-relaxer.

    Parameters
    ----------
    name
        "auto", "definet", "fields", "potential:NAME", or chains of these with "+".
    weights
        sha256 of the network that "definet" means.

    Raises
    ------
    InputError
        If there is no such pre-relaxer.
    """
    if _CHAIN in name:
        first, _, second = name.partition(_CHAIN)
        if not second.startswith(POTENTIAL) or first not in (DEFINET, FIELDS):
            msg = f"prerelaxer={name!r}: a chain is {DEFINET} or {FIELDS}, then a potential that goes on from there"
            raise InputError(msg)
        return content_hash("chain", key_of(first, weights), key_of(second, weights))
    if name == DEFINET:
        return weights
    if name == AUTO:
        return AUTO
    if name == FIELDS:
        from definet_flows.starts.fields import FieldsPreRelaxer  # noqa: PLC0415 - torch, by way of the gate

        return FieldsPreRelaxer(()).key
    if name.startswith(POTENTIAL):
        from definet_flows.starts.potential import potential_named  # noqa: PLC0415 - torch

        return potential_named(name).key
    msg = f"prerelaxer={name!r}: choose {AUTO}, {_EACH}"
    raise InputError(msg)


def build(name: str, network: Callable[[], PreRelaxer], fields: Callable[[], Sequence[Evidence]]) -> PreRelaxer:
    """Return the pre-relaxer of a name, of what only some names need.

    Parameters
    ----------
    name
        Any but "auto".
    network
        Returns the network's.
    fields
        Returns the relaxations that fields learn from.
    """
    if _CHAIN in name:
        from definet_flows.starts.chains import ChainPreRelaxer  # noqa: PLC0415 - torch
        from definet_flows.starts.potential import potential_named  # noqa: PLC0415

        first, _, second = name.partition(_CHAIN)
        return ChainPreRelaxer(build(first, network, fields), potential_named(second))
    if name == DEFINET:
        return network()
    if name == FIELDS:
        from definet_flows.starts.fields import FieldsPreRelaxer  # noqa: PLC0415 - torch, by way of the gate

        return FieldsPreRelaxer(fields())
    from definet_flows.starts.potential import potential_named  # noqa: PLC0415 - torch

    return potential_named(name)


def outside_campaigns(
    name: str,
    host: Structure | Atoms | str | Path | None,
    checkpoint: Callable[[], Checkpoint],
    store: StoreLike | None,
    settings: str | None,
    *,
    allow_unseen_host: bool,
) -> tuple[PreRelaxer, Card | None]:
    """Return a pre-relaxer for structures outside campaigns, and the card of the network if that proposes alone.

    Parameters
    ----------
    name
        "definet", "fields", "potential:NAME" or a chain.
    host
        The user's host; only the network alone knows hosts without.
    checkpoint
        Returns the network's; called where the network takes part.
    store, settings
        See `stored_fields`; looked at where fields take part.
    allow_unseen_host
        Let the network's gate pass a host that the network was not trained on.

    Raises
    ------
    InputError
        If the name is none or is "auto", no host is named, or the store has nothing to learn from.
    """
    if not isinstance(name, str):
        raise InputError(f"prerelaxer={name!r}: give a name, {_EACH}")
    if name == DEFINET:
        asked = checkpoint()
        return NetworkPreRelaxer(asked, allow_unseen_host), asked.card
    if name == AUTO:
        raise InputError(f"prerelaxer {AUTO} is of campaigns: name {_EACH}")
    key_of(name, "")
    if host is None:
        raise InputError(f"prerelaxer={name!r}: name the host (--host)")
    from definet_flows.hosts import load_structure  # noqa: PLC0415 - pymatgen

    formula = load_structure(host).reduced_formula

    def fields() -> Sequence[Evidence]:
        from definet_flows.starts.stored import stored_fields  # noqa: PLC0415 - the record stores

        return stored_fields(store, formula, settings)

    return build(name, lambda: NetworkPreRelaxer(checkpoint(), allow_unseen_host), fields), None
