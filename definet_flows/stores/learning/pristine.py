"""The bulk supercell of a record, read back from its site map."""

from __future__ import annotations

import numpy as np

from definet_flows.errors import InputError
from definet_flows.schemas import DefectRecord, FloatArray, Host, RelaxedHost
from definet_flows.stores.learning.vetting import base_of, nearest_image

_AT_REST = 1e-4  # Å; a base that lies nearer to the relaxed host is the relaxed host


def pristine_of(record: DefectRecord) -> Host:
    """Return the bulk supercell of a record's configuration: its sites before any edit.

    If the host was relaxed first, these are its relaxed sites; its hash then differs from the record's.

    Raises
    ------
    InputError
        If the record has no table of sites.
    """
    if record.sites is None:
        msg = f"record {record.id} holds no positions"
        raise InputError(msg)
    count = record.host.n_sites
    numbers = list(record.sites.numbers[:count])
    for edit in record.configuration.edits:
        if edit.site is not None and edit.old is not None:
            numbers[edit.site] = edit.old
    frac = np.round(record.sites.unrelaxed[:count] @ np.linalg.inv(record.host.lattice), 8)
    fields = record.host.model_dump(include={"formula", "lattice", "matrix", "dimensionality"})
    return Host(**fields, numbers=tuple(numbers), frac_coords=tuple(map(tuple, frac.tolist())))


def own_motion(record: DefectRecord, relaxed: RelaxedHost) -> FloatArray:
    """Return where the pristine host relaxes to from the base of a record, Å, [n_sites, 3].

    Zero for the records of a campaign that relaxed the host first; not for ingested records, which began on the host as
    given.

    Parameters
    ----------
    record
        Of a finished relaxation.
    relaxed
        The same supercell, relaxed with the same settings.
    """
    assert record.sites is not None  # noqa: S101 - of a finished record
    moved = nearest_image(relaxed.relaxed - base_of(record.sites), record.host.lattice)
    return moved if np.abs(moved).max() > _AT_REST else np.zeros_like(moved)
