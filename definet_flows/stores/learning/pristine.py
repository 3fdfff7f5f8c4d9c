"""The bulk supercell of a record, read back from its site map."""

from __future__ import annotations

import numpy as np

from definet_flows.errors import InputError
from definet_flows.schemas import DefectRecord, Host


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
