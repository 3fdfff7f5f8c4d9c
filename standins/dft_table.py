"""Tables of `benchmarks/dft.py`: steps from each start, totals, and the saving by number of defects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.model.inference.checkpoint import load_checkpoint
from definet_flows.schemas import DEFINET
from definet_flows.stores import Filter, savings, savings_by, starts_rows
from definet_flows.stores.analysis.gates import prerelaxer_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from definet_flows.schemas import Pair
    from definet_flows.stores import Quantity, Records, Savings, StartsRow

    Cases = Mapping[str, tuple[str, float | None]]

SHIPPED = "definet-2dmd"


def markdown(records: Records, cases: Cases) -> str:
    """Return the tables of a campaign, of each start those configurations that are computed.

    Parameters
    ----------
    records
        An open store with a single settings hash.
    cases
        Name and distance of the defects, Å, by configuration_id; the rows keep this order.
    """
    keys = _names(records)
    known = {row.configuration_id for row in starts_rows(records, Filter(configuration_ids=tuple(cases)))}
    waiting = [words for one, (words, _) in cases.items() if one not in known]
    last = [f"Not computed yet: {', '.join(waiting)}.", ""] if waiting else []
    computed = {one: words for one, words in cases.items() if one in known}
    parts = [_of_way(records, computed, key, name) for key, name in keys.items()] if computed else []
    return "\n".join([*parts, *last])


def summary(records: Records, cases: Cases) -> str:
    """Return how many configurations have pairs, and a table of the totals: a row for each pre-relaxer with pairs."""
    where = Filter(configuration_ids=tuple(cases))
    paired = len({pair.configuration_id for pair in records.pair_rows(where)})
    found = {name: savings(records, where.model_copy(update={"weights": key})) for key, name in _names(records).items()}
    rows = [_totals(f"`{name}`", one) for name, one in found.items() if one.pairs]
    heads = ("start", "pairs", "in the same minimum", "steps unrelaxed", "from the start", "saved", "95 %")
    relaxed = f"All {paired} configurations are relaxed"
    if paired < len(cases):
        relaxed = f"So far {paired} of {len(cases)} configurations are relaxed"
    done = f"{relaxed}, each from two starts or more."
    return "\n".join([done, "", *(_table(heads, rows) if rows else ()), ""])


def _names(records: Records) -> dict[str, str]:
    return {load_checkpoint(SHIPPED).sha256: DEFINET, **prerelaxer_names(records)}


def _of_way(records: Records, cases: Cases, key: str, name: str) -> str:
    """Return the tables of the starts from a pre-relaxer."""
    where = Filter(configuration_ids=tuple(cases), weights=key)
    rows = {row.configuration_id: row for row in starts_rows(records, where)}
    pairs = {pair.configuration_id: pair for pair in records.pairs(where)}
    lines = [_row(words, apart, rows[one], pairs.get(one)) for one, (words, apart) in cases.items() if one in rows]
    start = f"`{name}`"
    heads = ("configuration", "apart, Å", "force unrelaxed", start, "steps unrelaxed", start, "saved", "ends")
    return "\n".join([f"### Starts from {start}", "", *_table(heads, lines), "", *_sums(records, where, start), ""])


def _sums(records: Records, where: Filter, start: str) -> list[str]:
    """Return the totals of all pairs, and of the pairs by number of defects."""
    every = savings(records, where)
    if not every.pairs:
        return ["No configuration is relaxed from both starts."]
    groups = {f"{count} defects" if count != 1 else "1 defect": found for count, found in _groups(records, where)}
    heads = ("configurations", "pairs", "in the same minimum", "steps unrelaxed", start, "saved", "95 %")
    return _table(heads, [_totals(words, found) for words, found in ({"all": every} | groups).items()])


def _groups(records: Records, where: Filter) -> list[tuple[int, Savings]]:
    found = savings_by(records, "n_defects", where).items()
    return [(int(count), one) for count, one in found if one.pairs]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _row(name: str, apart: float | None, row: StartsRow, pair: Pair | None) -> tuple[str, ...]:
    place = "-" if apart is None else f"{apart:.2f}"
    steps = row.steps_unrelaxed, row.steps_predicted
    return (
        name,
        place,
        _number(row.start_force_unrelaxed, ".2f"),
        _number(row.start_force_predicted, ".2f"),
        _number(steps[0], "d"),
        _number(steps[1], "d"),
        _percent(1 - steps[1] / steps[0]) if pair and steps[0] and steps[1] else "-",
        _ends(row, pair),
    )


def _ends(row: StartsRow, pair: Pair | None) -> str:
    """Return the verdict in words; of another minimum by how much it differs."""
    if pair is None:
        return f"prediction rejected: {row.reason}" if row.gate == "rejected" else "one start has ended"
    flagged = "; prediction flagged" if row.gate == "flagged" else ""
    if pair.verdict in {"better minimum", "other minimum"} and pair.energy_difference is not None:
        return f"{pair.verdict}, {1000 * pair.energy_difference:+.0f} meV{flagged}"
    return f"{pair.verdict}{flagged}"


def _totals(name: str, found: Savings) -> tuple[str, ...]:
    ionic = found.ionic
    sums = f"{ionic.unrelaxed or 0:.0f}", f"{ionic.predicted or 0:.0f}"
    return name, str(found.pairs), str(found.same_minimum), *sums, _percent(ionic.saving), _interval(ionic)


def _interval(ionic: Quantity) -> str:
    if ionic.interval is None:
        return (ionic.interval_reason or "-").partition(":")[0]
    return f"{_percent(ionic.interval[0])} to {_percent(ionic.interval[1])}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{round(100 * share)} %"  # never "-0 %"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
