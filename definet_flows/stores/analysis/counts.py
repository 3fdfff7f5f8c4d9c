"""Numbers and costs of relaxations: counts, sums and medians, in total and by group."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from definet_flows.schemas import Frozen, signed
from definet_flows.stores.analysis.figures import GroupBy, check_group
from definet_flows.stores.analysis.gates import joined_rows, named, prerelaxer_names
from definet_flows.stores.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.stores.analysis.rows import RecordRow
    from definet_flows.stores.records import Records

_EVERYTHING = Filter()
_SHOWN = 10  # values that a message names
_COSTS = ("electronic_steps", "core_hours", "wall_seconds", "cores")


class Counts(Frozen):
    """Relaxations of a group; a sum is over those whose ledgers state the cost, None where none does."""

    relaxations: int
    configurations: int
    unrelaxed: int = Field(description="relaxations from the unrelaxed start")
    predicted: int = Field(description="relaxations from a prediction")
    done: int
    running: int
    failed: int
    unconverged: int = Field(description="done, but above the force criterion")
    flagged: int = Field(description="relaxations whose prediction the gate flagged")
    gated: int = Field(description="relaxations whose prediction the gate rejected")
    ionic_steps: int = Field(description="of the relaxations whose ledgers state them")
    unknown_steps: int = Field(description="relaxations that are done and state no ionic steps")
    electronic_steps: int | None
    core_hours: float | None = Field(description="h")
    wall_seconds: float | None = Field(description="s")
    cores: tuple[int, int] | None = Field(description="fewest and most of a relaxation")
    ended: int = Field(description="relaxations that are done or failed")
    stated: dict[str, int] = Field(description="how many state electronic_steps, core_hours, wall_seconds, cores")
    median_ionic_steps: float | None = Field(description="of the relaxations that are done; None without any")


def counts(records: Records, where: Filter = _EVERYTHING) -> Counts:
    """Count the relaxations that match; no structure is read."""
    rows, _ = joined_rows(records, where)
    return count_rows(rows)


def counts_by(records: Records, by: GroupBy, where: Filter = _EVERYTHING) -> dict[str | int, Counts]:
    """Count the relaxations of each group, in ascending order of the group's key; raises as `savings_by`."""
    check_group(by)
    rows, gates = joined_rows(records, where)
    groups: dict[str | int, list[RecordRow]] = defaultdict(list)
    if by == "weights":
        groups = gates.by_weights(rows)
    elif by == "prerelaxer":
        names = prerelaxer_names(records)
        for key, some in gates.by_weights(rows).items():
            groups[named(str(key), names)] += some
        groups = {name: list({row.id: row for row in some}.values()) for name, some in groups.items()}
    else:
        for row in rows:
            groups[getattr(row, by)].append(row)
    return {key: count_rows(groups[key]) for key in sorted(groups, key=lambda key: (isinstance(key, str), key))}


def count_rows(rows: Sequence[RecordRow]) -> Counts:
    """Count these relaxations."""
    starts, statuses, gates = ([getattr(row, field) for row in rows] for field in ("start", "status", "gate"))
    done = [row.ionic_steps for row in rows if row.status == "done"]
    steps = [count for count in done if count is not None]
    stated = {cost: [value for row in rows if (value := getattr(row, cost)) is not None] for cost in _COSTS}
    return Counts(
        relaxations=len(rows),
        configurations=len({row.configuration_id for row in rows}),
        unrelaxed=starts.count("unrelaxed"),
        predicted=starts.count("predicted"),
        done=statuses.count("done"),
        running=statuses.count("running"),
        failed=statuses.count("failed"),
        unconverged=sum(row.status == "done" and row.converged is False for row in rows),
        flagged=gates.count("flagged"),
        gated=gates.count("rejected"),
        ionic_steps=sum(row.steps for row in rows),
        unknown_steps=len(done) - len(steps),
        **{cost: sum(values) if values else None for cost, values in stated.items() if cost != "cores"},
        cores=(min(stated["cores"]), max(stated["cores"])) if stated["cores"] else None,
        ended=len(rows) - statuses.count("running"),
        stated={cost: len(values) for cost, values in stated.items()},
        median_ionic_steps=float(np.median(steps)) if steps else None,
    )


def explain_nothing(records: Records, where: Filter) -> str:
    """Return in a line why nothing matches: the store is empty, or a filter excludes everything."""
    rows = records.record_rows()
    if not rows:
        return f"record store {records.name!r} holds no relaxations: run a flow first, or name another with --store"
    for field, value in where.model_dump(exclude_none=True, exclude={"configuration_ids"}).items():
        in_words = signed if field == "charge" else str
        wanted = [in_words(one) for one in (value if isinstance(value, tuple) else (value,))]
        there = sorted({in_words(one) for row in rows if (one := getattr(row, field)) is not None})
        if not set(wanted) & set(there):
            known = ", ".join(there[:_SHOWN]) + (", ..." if len(there) > _SHOWN else "")
            return f"no relaxation has {field} {', '.join(wanted)}: record store {records.name!r} has {known or 'none'}"
    return f"no relaxation in record store {records.name!r} matches all filters at once: leave a filter out"
