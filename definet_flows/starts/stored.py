"""What fields learn from outside campaigns: the relaxations of a host in a record store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.starts.evidence import recorded
from definet_flows.stores import Filter, open_store
from definet_flows.stores.prefix import listed, only

if TYPE_CHECKING:
    from definet_flows.starts.proposals import Evidence
    from definet_flows.stores.opening import StoreLike


def stored_fields(store: StoreLike | None, formula: str, settings: str | None) -> list[Evidence]:
    """Return the relaxations of a host in a record store that fields learn from, of a single engine's settings.

    Parameters
    ----------
    store
        The record store, as in `open_store`; None: that of the settings.
    formula
        Reduced formula of the host.
    settings
        Beginning of the settings hash; None: the only one.

    Raises
    ------
    InputError
        If there are none, or several settings fit.
    """
    with open_store(store, read_only=True) as records:
        rows = records.record_rows(Filter(host=formula))
        known = sorted({(row.settings_hash, row.engine) for row in rows if row.status == "done"})
        where = f"record store {records.name!r}"
        if settings is None and len(known) > 1:
            msg = f"{where} has relaxations of {formula} with several settings: give --settings of {listed(known)}"
            raise InputError(msg)
        if not known:
            msg = f"{where} has no finished relaxation of {formula} to learn fields from: name another with --store"
            raise InputError(msg)
        chosen = known[0] if settings is None else only(settings, known, "settings", where)
        return recorded(records, formula, chosen[0])
