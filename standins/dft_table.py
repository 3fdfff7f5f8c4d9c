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

SHIPPED = "definet-2dmd"


def markdown(records: Records, cases: Mapping[str, tuple[str, float | None]]) -> str:
    """Return the tables of a campaign.

    Parameters
    ----------
    records
        An open store with a single settings hash.
    cases
        Name and distance of the defects, Å, by configuration_id; the rows keep this order.
    """
    keys = {load_checkpoint(SHIPPED).sha256: DEFINET, **prerelaxer_names(records)}
    return "\n".join(_of_way(records, cases, key, name) for key, name in keys.items())


def summary(records: Records, cases: Mapping[str, tuple[str, float | None]]) -> str:
    """Return a table of the totals, a row for each pre-relaxer that has pairs."""
    keys = {load_checkpoint(SHIPPED).sha256: DEFINET, **prerelaxer_names(records)}
    found = {name: savings(records, Filter(configuration_ids=tuple(cases), weights=key)) for key, name in keys.items()}
    rows = [_totals(f"`{name}`", one) for name, one in found.items() if one.pairs]
    heads = ("start", "pairs", "in the same minimum", "steps unrelaxed", "from the start", "saved", "95 %")
    return "\n".join([*_table(heads, rows), ""])


def _of_way(records: Records, cases: Mapping[str, tuple[str, float | None]], key: str, name: str) -> str:
    """Return the tables of the starts from a pre-relaxer."""
    where = Filter(configuration_ids=tuple(cases), weights=key)
    rows = {row.configuration_id: row for row in starts_rows(records, where)}
    pairs = {pair.configuration_id: pair for pair in records.pairs(where)}
    lines = [_row(words, apart, rows.get(one), pairs.get(one)) for one, (words, apart) in cases.items()]
    start = f"`{name}`"
    heads = ("configuration", "apart, Å", "force unrelaxed", start, "steps unrelaxed", start, "saved", "ends")
    ended = f"Both relaxations have ended for {len(pairs)} of {len(cases)} configurations."
    groups = {f"{count} defects" if count != 1 else "1 defect": found for count, found in _groups(records, where)}
    totals = [_totals(words, found) for words, found in ({"all": savings(records, where)} | groups).items()]
    total_heads = ("configurations", "pairs", "in the same minimum", "steps unrelaxed", start, "saved", "95 %")
    title = f"### Starts from {start}"
    return "\n".join([title, "", *_table(heads, lines), "", ended, "", *_table(total_heads, totals), ""])


def _groups(records: Records, where: Filter) -> list[tuple[int, Savings]]:
    return [(int(count), found) for count, found in savings_by(records, "n_defects", where).items()]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _row(name: str, apart: float | None, row: StartsRow | None, pair: Pair | None) -> tuple[str, ...]:
    place = "-" if apart is None else f"{apart:.2f}"
    if row is None:
        return name, place, "-", "-", "-", "-", "-", "not computed yet"
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
    sums = f"{ionic.unrelaxed:.0f}", f"{ionic.predicted:.0f}"
    return name, str(found.pairs), str(found.same_minimum), *sums, _percent(ionic.saving), _interval(ionic)


def _interval(ionic: Quantity) -> str:
    if ionic.interval is None:
        return (ionic.interval_reason or "-").partition(":")[0]
    return f"{_percent(ionic.interval[0])} to {_percent(ionic.interval[1])}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
