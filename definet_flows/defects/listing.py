"""Configurations as rows: what `definet enumerate --list` shows."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import spglib
from pydantic import Field

from definet_flows.atomic import replacing
from definet_flows.defects.labels import label_of, site_labels
from definet_flows.defects.sites.symmetry import stabilizer
from definet_flows.schemas import Configuration, Edit, Frozen, Host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


COLUMNS = ("name", "id", "sites", "multiplicity", "site symmetry", "charge")
"""Headings of the rows."""


class ListedConfiguration(Frozen):
    """A configuration in a row."""

    name: str = Field(description="with the labels of the sites, such as v_O2")
    id: str
    sites: str = Field(description="edited sites of the supercell, counted from 0; of an inserted atom its place")
    multiplicity: int = Field(description="symmetry-equivalent placements in the supercell")
    site_symmetry: str = Field(description="point group that the defects leave in the supercell, Hermann-Mauguin")
    charge: int = Field(description="elementary charges")

    def cells(self) -> tuple[str, ...]:
        """Return the row as texts."""
        charge = f"{self.charge:+d}" if self.charge else "0"
        return (self.name, self.id, self.sites, str(self.multiplicity), self.site_symmetry, charge)


def listed(host: Host, configurations: Iterable[Configuration]) -> Iterator[ListedConfiguration]:
    """Yield the row of each configuration of a host, in order."""
    labels, host_hash = site_labels(host), host.hash
    for configuration in configurations:
        yield ListedConfiguration(
            name=label_of(configuration, labels),
            id=configuration.id_in(host_hash),
            sites=" ".join(map(_place, configuration.edits)),
            multiplicity=configuration.multiplicity,
            site_symmetry=point_group(host, configuration),
            charge=configuration.charge,
        )


def write_csv(path: Path, rows: Iterable[ListedConfiguration]) -> None:
    """Write rows to a file with a heading, whole or not at all. Raises as `definet_flows.atomic.replacing`."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heading.replace(" ", "_") for heading in COLUMNS)
        writer.writerows(row.cells() for row in rows)


def _place(edit: Edit) -> str:
    if edit.position is None:
        return str(edit.site)
    return "({})".format(", ".join(f"{x:.3f}" for x in edit.position))


def point_group(host: Host, configuration: Configuration) -> str:
    """Return the point group of a configuration in its supercell, Hermann-Mauguin.

    A supercell that is less symmetric than the crystal has fewer operations.
    """
    cell = np.array(host.lattice)
    rotations = [cell @ rotation.T @ np.linalg.inv(cell) for rotation in stabilizer(host, configuration).rotations]
    whole = np.unique(np.rint(rotations).astype(np.intc), axis=0)
    found = spglib.get_pointgroup(whole.transpose(0, 2, 1))
    return str(found[0]).strip() if found else "1"
