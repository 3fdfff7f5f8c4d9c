"""Fig. 6 of the paper: defects that microscopes show, predicted by the shipped weights and relaxed by SevenNet-0.

    python benchmarks/paper/stem.py

A row of four S vacancies in 8 x 8 MoS2; one Se vacancy, two above each other, and the trefoil in 6 x 6 WSe2. The
prediction is `definet-2dmd`, which learned DFT. SevenNet-0 relaxes at fixed cell by BFGS to 0.01 eV/Å, from the
unrelaxed and from the predicted start. The trefoil's turned atoms are on no site of the host; the network is shown them
where they are. Results go to benchmarks/paper/results/stem.json after each defect, and a command that was stopped goes
on. The picture is docs/figures/proofs-stem.png; its simulated images need abTEM (`pip install abtem`), and without it
they are left out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.support.paper_relax import BothStarts, from_both_starts, host_at_rest
from benchmarks.support.stem_defects import Picture, double, row, single, trefoil
from benchmarks.support.stem_image import REMEDY, image, installed
from definet_flows.atomic import write_whole
from definet_flows.defects import nodes
from definet_flows.hosts import make_host
from definet_flows.model.inference.checkpoint import Checkpoint, load_checkpoint
from definet_flows.model.inference.predict import displacements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from definet_flows.schemas import FloatArray, Host

RESULTS = Path(__file__).parent / "results" / "stem.json"
FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "proofs-stem.png"
WEIGHTS, POTENTIAL = "definet-2dmd", "sevennet"
STAGES = ("unrelaxed", "predicted", "relaxed")
_NEAR, _WIDTH = 4.0, 14.0
"""Å: radius in which an atom is near a vacancy, and width of a picture."""


def pictures() -> list[Picture]:
    """Return the four defects."""
    selenide = make_host("WSe2", (6, 6, 1))
    return [row(make_host("MoS2", (8, 8, 1)), 4), single(selenide), double(selenide), trefoil(selenide)]


def predicted(checkpoint: Checkpoint, picture: Picture) -> FloatArray:
    """Return displacements of the host's sites, those of the pristine host taken off, Å, [n_sites, 3]."""
    numbers, markers = nodes(picture.host, picture.configuration)
    moved = displacements(checkpoint.network, picture.turned_host, numbers[None], markers[None])[0]
    pristine = np.array(picture.host.numbers)
    still = displacements(checkpoint.network, picture.host, pristine[None], np.zeros_like(pristine)[None])[0]
    moved -= still
    return moved - moved[picture.atoms].mean(0)


def result(picture: Picture, both: BothStarts) -> dict[str, Any]:
    """Return what is kept of a defect: costs, errors, distances, and positions of all sites, Å."""
    places = {"unrelaxed": both.base, "predicted": both.base + both.moved, "relaxed": both.unrelaxed.positions}
    tables = {stage: _all_sites(picture, positions) for stage, positions in places.items()}
    atoms = picture.atoms
    return {
        "picture": picture.name,
        "host": picture.host.formula,
        "atoms": int(atoms.sum()),
        "vacancies": len(picture.vacant),
        **both.costs,
        "errors": {"near": both.errors(picture.near(_NEAR)[atoms]), "all": both.errors(atoms[atoms])},
        "across": {stage: round(picture.across(table), 3) for stage, table in tables.items()},
        "arms": {stage: _rounded(picture.arms(table)) for stage, table in tables.items()},
        "positions": {stage: np.round(positions, 3).tolist() for stage, positions in places.items()},
    }


def _all_sites(picture: Picture, positions: FloatArray) -> FloatArray:
    """Return a table of all sites from one of the atoms; vacant sites are where the host has them."""
    table = picture.host.cartesian
    table[picture.atoms] = positions
    return table


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def rows(known: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the result of each defect that has none."""
    checkpoint, bases = load_checkpoint(WEIGHTS), dict[str, "FloatArray"]()
    for picture in pictures():
        if picture.name in known:
            continue
        host = picture.host
        if host.hash not in bases:
            bases[host.hash] = host_at_rest(POTENTIAL, host)
        began = time.process_time()
        moved = predicted(checkpoint, picture)
        seconds = round(time.process_time() - began, 3)
        base = picture.placed(bases[host.hash])
        yield {
            **result(picture, from_both_starts(POTENTIAL, host, base, picture.configuration, moved)),
            "prediction_s": seconds,
        }


def show(found: list[dict[str, Any]], console: Console) -> None:
    """Print a row for each defect, Å."""
    table = Table("defect", "steps", "same minimum", "error near", "no motion", *(f"across, {s}" for s in STAGES))
    for one in found:
        steps = " to ".join(str(n) for n in one["steps"].values())
        near = (f"{one['errors']['near'][kind]:.4f}" for kind in ("network", "dummy"))
        across = (f"{one['across'][stage]:.2f}" for stage in STAGES)
        table.add_row(f"{one['picture']}, {one['host']}", steps, str(one["same_minimum"]), *near, *across)
    console.print(table)


# ------------------------------------------------------------------ the picture


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw each defect from above, and its simulated images where abTEM is installed."""
    of_name = {one["picture"]: one for one in found}
    shown = [picture for picture in pictures() if picture.name in of_name]
    columns = 3 if installed() else 1
    figure = Figure(figsize=(2.1 * columns, 2.2 * len(shown) + 0.3), layout="constrained")
    panels = figure.subplots(len(shown), columns, squeeze=False)
    for line, picture in zip(panels, shown, strict=True):
        tables = {stage: np.array(of_name[picture.name]["positions"][stage]) for stage in STAGES}
        middle = _middle(picture)
        _draw_atoms(line[0], picture, tables, middle)
        line[0].set_ylabel(f"{picture.host.formula}, {picture.name}", fontsize=7)
        for panel, stage in zip(line[1:], ("predicted", "relaxed"), strict=columns == 3):  # noqa: PLR2004
            numbers = np.array(picture.host.numbers)[picture.atoms]
            atoms = Atoms(numbers, tables[stage], cell=picture.host.lattice, pbc=True)
            panel.imshow(image(atoms, middle, _WIDTH).T, origin="lower", cmap="gray")
            panel.set(xticks=[], yticks=[])
    for panel, title in zip(panels[0], ("circles: predicted, dots: relaxed", "predicted", "relaxed"), strict=False):
        panel.set_title(title, fontsize=7)
    figure.savefig(path, dpi=100, format="png", pil_kwargs={"optimize": True})


def _middle(picture: Picture) -> FloatArray:
    """Return the centre of a picture, Å, [3]."""
    sites = picture.host.cartesian
    if picture.turned:
        return sites[picture.centre]
    first = sites[picture.vacant[0]]
    return first + find_mic(sites[list(picture.vacant)] - first, picture.host.lattice)[0].mean(0)


def _draw_atoms(axes: Axes, picture: Picture, tables: dict[str, FloatArray], middle: FloatArray) -> None:
    numbers = np.array(picture.host.numbers)[picture.atoms]
    for element, color in zip(np.unique(numbers), ("C1", "C0"), strict=True):
        for stage, style in (("predicted", {"s": 34, "facecolors": "none"}), ("relaxed", {"s": 5, "c": color})):
            x, y, _ = _around(tables[stage][numbers == element], middle, picture.host)
            axes.scatter(x, y, edgecolors=color, linewidths=0.8, **style)
    x, y, _ = _around(picture.host.cartesian[list(picture.vacant)], middle, picture.host)
    axes.scatter(x, y, marker="x", s=14, c="0.3", linewidths=0.8)
    half = _WIDTH / 2
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", xticks=[], yticks=[])


def _around(positions: FloatArray, middle: FloatArray, host: Host) -> FloatArray:
    """Return positions relative to a point, the nearest image of each, [3, n]."""
    return find_mic(positions - middle, host.lattice)[0].T


def main() -> None:
    """Relax what is missing, then print the table and draw the picture."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    for one in rows({one["picture"] for one in found}):
        found.append(one)
        write_whole(RESULTS, "[\n" + ",\n".join(json.dumps(line) for line in found) + "\n]\n")
        print(f"{one['picture']}: {one['steps']}", flush=True)
    show(found, Console(width=120))
    draw(found, FIGURE)
    if not installed():
        print(REMEDY)


if __name__ == "__main__":
    main()
