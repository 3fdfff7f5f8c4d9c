"""Finished relaxations of a record store, as pre-relaxers learn from them."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.schemas import VACANCY, DefectRecord, FloatArray, RelaxedHost, Supercell
from definet_flows.starts.proposals import Evidence
from definet_flows.stores import Filter
from definet_flows.stores.learning.pristine import own_motion, pristine_of
from definet_flows.stores.learning.vetting import nearest_image

if TYPE_CHECKING:
    from collections.abc import Collection

    from definet_flows.schemas import Host
    from definet_flows.stores import Records


def recorded(
    records: Records,
    formula: str,
    settings_hash: str,
    *,
    other_base: str | None = None,
    without: Collection[str] = (),
) -> list[Evidence]:
    """Return the converged relaxations of a host's formula with an engine's settings, in any supercell.

    Parameters
    ----------
    records
        An open record store.
    formula
        Reduced formula of the host; whether a record is of the same crystal is for the pre-relaxer to find.
    settings_hash
        Relaxations with other settings are never mixed in.
    other_base
        Settings hash of the same engine's relaxations on the host's other base, as given or as relaxed. They count too,
        less the motion of the host from their base to its relaxed sites where the store has these.
    without
        Ids of configurations whose relaxations are left out.
    """
    hosts: dict[str, Host] = {}
    relaxed = {host.host.hash: host for host in records.find(RelaxedHost, {"settings_hash": settings_hash})}
    found = []
    both = [Filter(host=formula, settings_hash=settings) for settings in (settings_hash, other_base) if settings]
    for record in chain.from_iterable(map(records.records, both)):
        moved = None if record.configuration_id in without else _displacements(record, relaxed.get(record.host.hash))
        if moved is None or record.ledger is None:
            continue
        if record.host.hash not in hosts:
            hosts[record.host.hash] = _supercell(records, record)
        found.append(Evidence(record.id, hosts[record.host.hash], record.configuration, moved, record.ledger.energy))
    return found


def _displacements(record: DefectRecord, pristine: RelaxedHost | None) -> FloatArray | None:
    """Return relaxed minus unrelaxed positions by nearest image, less the pristine host's own, Å, [n_rows, 3].

    None if the relaxation did not converge.
    """
    if record.status != "done" or record.sites is None or record.sites.relaxed is None:
        return None
    if record.ledger is None or not record.ledger.converged:
        return None
    moved = nearest_image(record.sites.relaxed - record.sites.unrelaxed, record.host.lattice)
    if pristine is not None:
        moved[: len(pristine.relaxed)] -= own_motion(record, pristine)
    moved[[marker == str(VACANCY) for marker in record.sites.markers]] = 0.0
    return moved


def _supercell(records: Records, record: DefectRecord) -> Host:
    """Return the supercell as given; of a store that does not hold it, as the record has it."""
    stored = next(records.find(Supercell, {"id": Supercell.identity(record.host.hash)}), None)
    if stored is not None:
        return stored.host
    try:
        return pristine_of(record)
    except InputError as error:
        msg = f"the supercell of record {record.id} is neither in the store nor in the record: {error}"
        raise InputError(msg) from None
