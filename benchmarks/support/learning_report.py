"""Table and figure of `learning.py`: steps saved on held-out configurations, by records learned from."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.stores import Filter, Savings, open_store, savings
from definet_flows.workflows.learning.active.pool import start_error

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

SHIPPED = "definet-2dmd"
CONVERGED = 1
"""Evaluations of a relaxation that starts from its own end: the floor of an optimiser."""


class Row(NamedTuple):
    """Results of a network on the held-out configurations."""

    records: int
    seed: int
    error: float
    force: float
    savings: Savings


def read(folder: Path, name: str) -> list[Row]:
    """Return one row for each network that held-out configurations were relaxed from; the shipped network first."""
    paths = sorted(folder.glob(f"models/{name}-*/model.safetensors"))
    rows = []
    with open_store(str(folder / f"{name}.steps.jsonl"), read_only=True) as records:
        for model in (SHIPPED, *map(str, paths)):
            checkpoint = load_checkpoint(model)
            where = Filter(weights=checkpoint.sha256)
            arms = [r for r in records.records(where) if r.start == "predicted" and r.status == "done"]
            if not arms:
                continue
            _, count, seed = (name, 0, 0) if model == SHIPPED else checkpoint.name.rsplit("-", 2)
            errors = [error for error in map(start_error, arms) if error is not None]
            forces = [r.ledger.start_max_force for r in arms if r.ledger and r.ledger.start_max_force is not None]
            rows.append(
                Row(int(count), int(seed), float(np.mean(errors)), float(np.median(forces)), savings(records, where))
            )
    return sorted(rows, key=lambda row: (row.records, row.seed))


def show(folder: Path, name: str, console: Console) -> list[Row]:
    """Print the table; return its rows."""
    rows = read(folder, name)
    table = Table(title=f"{name} 4 x 4, SevenNet-0, BFGS to 0.01 eV/Å, held-out configurations", title_justify="left")
    heads = (
        "records",
        "seed",
        "error mÅ",
        "|F| at start",
        "pairs",
        "saving",
        "95 %",
        "median steps",
        "unrelaxed",
        "else",
    )
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        ionic = row.savings.ionic
        interval = "-" if ionic.interval is None else f"{ionic.interval[0]:.0%} to {ionic.interval[1]:.0%}"
        other = row.savings.pairs - row.savings.same_minimum
        table.add_row(
            str(row.records) if row.records else "shipped",
            str(row.seed) if row.records else "",
            f"{1000 * row.error:.2f}",
            f"{row.force:.3f}",
            str(ionic.pairs),
            "-" if ionic.saving is None else f"{ionic.saving:.1%}",
            interval,
            "-" if ionic.median_predicted is None else f"{ionic.median_predicted:g}",
            "-" if ionic.median_unrelaxed is None else f"{ionic.median_unrelaxed:g}",
            str(other + row.savings.gated),
        )
    console.print(table)
    console.print(f"else: pairs in other minima or unconverged, and gated. Floor of the optimiser: {CONVERGED}")
    return rows


def draw(rows: list[Row], name: str, path: Path) -> None:
    """Write the learning curves: saving and median residual steps by records learned from."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    by_count: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.savings.saving is not None:
            by_count[row.records].append(row)
    counts = sorted(by_count)
    left.plot(counts, [100 * np.mean([r.savings.saving for r in by_count[c]]) for c in counts], "-", color="#aa3344")
    medians = [np.mean([r.savings.ionic.median_predicted for r in by_count[c]]) for c in counts]
    right.plot(counts, medians, "-", color="#aa3344")
    for count in counts:
        for row in by_count[count]:
            left.plot(count, 100 * (row.savings.saving or 0), "o", color="#aa3344")
            right.plot(count, row.savings.ionic.median_predicted, "o", color="#aa3344")
    left.axhline(75, color="#888888", linestyle=":", label="goal")
    right.axhline(CONVERGED + 3, color="#888888", linestyle=":", label="floor + 3")
    left.set(xlabel="records learned from", ylabel="ionic steps saved, %", title=f"{name}, SevenNet-0", ylim=(0, 100))
    right.set(xlabel="records learned from", ylabel="median steps from prediction", ylim=(0, None))
    for panel in (left, right):
        panel.legend(fontsize=8)
    figure.savefig(path)
