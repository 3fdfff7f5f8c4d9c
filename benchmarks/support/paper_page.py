"""The measured part of the page Proofs, from the files of results."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from benchmarks.support.paper_summary import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NEAR = ("A3", "A4", "A5", "A6", "mae")
_BASELINES = ("dummy", "dummy_host", "additive")
_NOT_YET = "Not measured yet: `{}`.\n"


def page(results: Path) -> str:
    """Return every section of tables; one without results names the command that makes them."""
    trained = {claim: _networks(results, claim, title) for claim, title in _TRAINED.items()}
    twin, *others = trained.values()
    relaxed = (make(read(results / f"{name}.json")) for name, make in _RELAXED.items())
    return "\n".join([_accuracy(read(results / "accuracy.json")), twin, *relaxed, *others])


_TRAINED = {
    "twin": "Fig. 3: beside a network without markers",
    "ablations": "Suppl. 7 and 8: what each part brings",
    "data-size": "Suppl. 9: how much data",
    "transfer": "Transfer: to another density, to other pair distances",
}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}".lstrip("0")


def _short(name: str) -> str:
    return name.replace("_density_defects/", " ").replace("_spin", "").replace("_500", "")


def _accuracy(evaluation: Any) -> str:  # noqa: ANN401 - JSON
    title = "### Fig. 3: errors near defects\n"
    if evaluation is None:
        return f"{title}\n{_NOT_YET.format('python benchmarks/paper/accuracy.py --data FOLDER')}"
    rows = []
    for name, result in evaluation["sets"].items():
        errors = [_number(result[field]) for field in (*NEAR, *_BASELINES)]
        lower = f"{1 - result['mae'] / result['dummy_host']:.0%}"
        rows.append([_short(name), str(result["n"]), *errors, lower])
    head = (
        "set",
        "n",
        "A3",
        "A4",
        "A5",
        "A6",
        "all",
        "no motion",
        "host's motion",
        "sum of fields",
        "lower than host's",
    )
    return f"{title}\n{_table(head, rows)}"


def _networks(results: Path, claim: str, title: str) -> str:
    rows = read(results / f"{claim}.json")
    title = f"### {title}\n"
    if not rows:
        command = f"python benchmarks/paper/networks.py {claim} --data FOLDER --work FOLDER"
        return f"{title}\n{_NOT_YET.format(command)}"
    means: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        for name, of_set in row["sets"].items():
            means[row["run"], name].append(of_set)
    lines = []
    for (run, name), seeds in means.items():
        errors = [_number(_mean([s["network"][field] for s in seeds])) for field in NEAR]
        beside = [_number(seeds[0][kind]["mae"]) for kind in ("dummy", "additive")]
        lines.append([run, _short(name), str(len(seeds)), *errors, *beside])
    budget = f"Epochs of {rows[0]['entries']} structures of each set: {rows[0]['epochs']}, the same for all.\n"
    head = ("network", "measured on", "seeds", "A3", "A4", "A5", "A6", "all", "no motion", "sum of fields")
    return f"{title}\n{budget}\n{_table(head, lines)}"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _potentials(rows: Any) -> str:  # noqa: ANN401 - JSON
    title = "### Suppl. 5 and 6: beside universal potentials\n"
    if not rows:
        return f"{title}\n{_NOT_YET.format('python benchmarks/paper/potentials.py --data FOLDER')}"
    lines = []
    for name in dict.fromkeys(row["potential"] for row in rows):
        members = [row for row in rows if row["potential"] == name]
        errors = [_number(fmean(r[k] for r in members)) for k in ("dummy", "relaxed", "without_host", "network")]
        better = sum(row["network"] < min(row["relaxed"], row["without_host"]) for row in members)
        times = [f"{median(r['processor_s'] for r in members):.0f}", f"{median(r['network_s'] for r in members):.2f}"]
        lines.append([name, str(len(members)), *errors, f"{better} of {len(members)}", *times])
    head = ("potential", "n", "no motion", "relaxed", "less the host's motion", "network", "network nearer to DFT")
    note = "BFGS at fixed cell from the unrelaxed positions to 0.05 eV/Å; structures of all six high-density sets.\n"
    return f"{title}\n{note}\n{_table((*head, 'processor s', 'network, processor s'), lines)}"


def _size(rows: Any) -> str:  # noqa: ANN401 - JSON
    title = "### Fig. 5b and c: size of the supercell\n"
    if not rows:
        return f"{title}\n{_NOT_YET.format('python benchmarks/paper/size.py')}"
    lines = []
    for size in sorted({row["size"] for row in rows}):
        members = [row for row in rows if row["size"] == size]
        steps = [_mean_of(members, "steps", start, 1) for start in _STARTS]
        seconds = [_mean_of(members, "processor_s", start, 1) for start in _STARTS]
        prediction = f"{median(row['prediction_s'] for row in members):.3f}"
        same = f"{sum(row['same_minimum'] for row in members)} of {len(members)}"
        error = _number(fmean(row["errors"]["network"] for row in members))
        lines.append([f"{size} x {size}", str(3 * size**2), same, *steps, error, *seconds, prediction])
    head = ("supercell", "sites", "same minimum", "steps unrelaxed", "steps predicted", "error")
    times = ("relaxation unrelaxed, processor s", "predicted, processor s", "prediction, processor s")
    picture = "![steps and seconds by size](figures/proofs-size.png)\n"
    note = (
        "MoS2, means over configurations that the weights have not learned (v_S, v_Mo, Se_S, and the neighbours "
        "v_S+W_Mo and v_Mo+v_S). The error is that of all atoms against the end of the relaxation.\n"
    )
    return f"{title}\n{note}\n{_table((*head, *times), lines)}\n{picture}"


_STARTS = ("unrelaxed", "predicted")


def _mean_of(rows: Sequence[dict[str, Any]], field: str, start: str, digits: int) -> str:
    return f"{fmean(row[field][start] for row in rows):.{digits}f}"


def _stem(rows: Any) -> str:  # noqa: ANN401 - JSON
    title = "### Fig. 6: defects that microscopes show\n"
    if not rows:
        return f"{title}\n{_NOT_YET.format('python benchmarks/paper/stem.py')}"
    lines = []
    for row in rows:
        errors = [_number(row["errors"][where][kind]) for where in ("near", "all") for kind in ("network", "dummy")]
        across = [f"{row['across'][stage]:.2f}" for stage in ("unrelaxed", "predicted", "relaxed")]
        costs = [str(row["steps"][start]) for start in _STARTS]
        same = "yes" if row["same_minimum"] else "no"
        lines.append([f"{row['host']}, {row['picture']}", str(row["vacancies"]), *errors, *across, *costs, same])
    head = ("defect", "vacancies", "error near", "no motion", "error of all", "no motion")
    distances = ("across, unrelaxed", "predicted", "relaxed")
    picture = "![the defects, predicted and relaxed](figures/proofs-stem.png)\n"
    steps = ("steps unrelaxed", "steps predicted", "same minimum")
    note = (
        "MoS2 in 8 x 8, WSe2 in 6 x 6, the shipped weights, relaxations by SevenNet-0. Near: atoms less than 4 Å from "
        "a vacancy or from the centre of the trefoil. Across: the mean distance of the three metal atoms around a "
        "vacancy, Å.\n"
    )
    return f"{title}\n{note}\n{_table((*head, *distances, *steps), lines)}\n{picture}"


_RELAXED = {"size": _size, "stem": _stem, "potentials": _potentials}
