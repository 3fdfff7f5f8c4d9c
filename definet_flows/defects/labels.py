"""Names that tell inequivalent sites apart: `v_O2` where `v_O` may be any of three; names of files.

The sites of an element are numbered by symmetry orbit, in the order of the host's sites: O1, O2, O3. An element whose
sites are all equivalent has no number.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Element

from definet_flows.defects.sites.symmetry import site_operations
from definet_flows.schemas import VACANCY, Configuration, Edit, Host, joined_name

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = 8  # characters of an id in the name of a file
_LONG = 120  # characters of a label in the name of a file; file systems take 255 bytes in all


def site_labels(host: Host) -> tuple[str, ...]:
    """Return the label of each site of a host, such as O2; without a number where the element has a single orbit."""
    heads = site_operations(host).permutations.min(axis=0)
    labels = [""] * host.n_sites
    for number in dict.fromkeys(host.numbers):
        symbol = Element.from_Z(number).symbol
        orbits = np.unique(heads[np.array(host.numbers) == number])
        for place, head in enumerate(orbits, start=1):
            for site in np.flatnonzero(heads == head):
                labels[site] = f"{symbol}{place}" if len(orbits) > 1 else symbol
    return tuple(labels)


def label_of(configuration: Configuration, labels: Sequence[str]) -> str:
    """Return the name of a configuration with the labels of its sites, such as `v_O2` or `v_Ga1+v_O3`.

    Parameters
    ----------
    configuration
        Of a host.
    labels
        Of its sites, [n_sites], as `site_labels` gives them; an inserted atom has none.
    """
    return joined_name(_edit(edit, labels) for edit in configuration.edits)


def _edit(edit: Edit, labels: Sequence[str]) -> str:
    if edit.site is None:
        return edit.name
    new = "v" if edit.marker == VACANCY else Element.from_Z(edit.new or 0).symbol
    return f"{new}_{labels[edit.site]}"


def charged_label(configuration: Configuration, labels: Sequence[str]) -> str:
    """Return the label, with the charge if there is any: `v_O2_+1`."""
    label = label_of(configuration, labels)
    return f"{label}_{configuration.charge:+d}" if configuration.charge else label


def file_names(labels: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return a name for each configuration: its label, followed by its id only where others have the same label.

    Of a label that is too long for a file system the beginning is kept, and the id follows.

    Parameters
    ----------
    labels, ids
        Of each configuration; the ids are unique. Eight characters of an id are taken if these are unique.
    """
    counts = Counter(label.lower() for label in labels)  # some file systems do not tell cases apart
    short = {identity[:_SHORT] for identity in ids}
    length = _SHORT if len(short) == len(ids) else None
    return [
        label if counts[label.lower()] == 1 and len(label) <= _LONG else f"{label[:_LONG]}_{identity[:length]}"
        for label, identity in zip(labels, ids, strict=True)
    ]
