"""What the summary of the page Proofs says of each claim, from the files of results."""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmarks.support.paper_runs import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_NOT_YET = "not measured yet"
_ANCHORS = {
    "accuracy": "fig-3-errors-near-defects",
    "twin": "fig-3-beside-a-network-without-markers",
    "size": "fig-5b-and-c-size-of-the-supercell",
    "ablations": "suppl-7-and-8-what-each-part-brings",
    "data-size": "suppl-9-how-much-data",
    "transfer": "transfer-to-another-density-to-other-pair-distances",
    "potentials": "suppl-5-and-6-beside-universal-potentials",
    "stem": "fig-6-defects-that-microscopes-show",
}
_LEFT = {
    "twin": "the network without markers",
    "size": "the size of the supercell",
    "ablations": "ablations",
    "data-size": "data size",
    "transfer": "transfer",
    "potentials": "universal potentials",
    "stem": "the defects of Fig. 6",
}
TRAINED = ("twin", "ablations", "data-size", "transfer")
_ASKED_SIZES, _ASKED_STRUCTURES = (4, 6, 8, 12), 30
_POTENTIALS = ("chgnet", "sevennet", "sevennet-l3i5")
_PICTURES = 4
_HALF_A_STEP = 0.5
_PAPER_LOW, _PAPER_HIGH = 0.78, 0.33
"""How much lower the paper's errors are than those of a network without markers."""


def read(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Return what a file of results holds; None if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def cells(results: Path) -> dict[str, str]:
    """Return what the table says of each claim, and under `short` the lines of the head that depend on results."""
    found = {claim: read(results / f"{claim}.json") for claim in _ANCHORS}
    texts = {claim: f"{_text(claim, found[claim])} ([table](#{anchor}))" for claim, anchor in _ANCHORS.items()}
    return {**texts, "short": "".join(f"- {line}\n" for line in _short(found))}


def _short(found: dict[str, Any]) -> Iterator[str]:
    """Yield where finished results fall short of the paper, then what is not finished."""
    if not _open("twin", found["twin"]):
        low, high = _beside_twin(found["twin"])
        if 1 - low < _PAPER_LOW or 1 - high < _PAPER_HIGH:
            paper = f"{_PAPER_LOW * 100:.0f} and {_PAPER_HIGH * 100:.0f} % lower"
            ours = f"{_percent(low)} at low density and {_percent(high)} at high"
            yield f"Beside the network without markers the errors are {ours}, in the paper {paper}."
    steps = _steps_left(found["size"] or [])
    if steps and steps[max(steps)] > steps[min(steps)] + _HALF_A_STEP:
        few, many = (f"{steps[n]:.1f} in {n} x {n}" for n in (min(steps), max(steps)))
        yield f"The ionic steps that are left grow with the supercell, from {few} to {many}."
    left = [f"{what}{_so_far(claim, found[claim])}" for claim, what in _LEFT.items() if _open(claim, found[claim])]
    if left:
        yield f"Not finished: {', '.join(left)}. The tables below show what is there."


# ------------------------------------------------------------------ what is there


def _counts(claim: str, found: Any) -> tuple[int, int]:  # noqa: ANN401 - JSON
    """Return how many results of a claim are there, and how many are asked."""
    there = found or []
    if claim in TRAINED:
        asked = {(run.name, run.seed) for run in runs(claim)}
        return len(asked & {(row["run"], row["seed"]) for row in there}), len(asked)
    if claim == "size":
        return len({row["size"] for row in there} & set(_ASKED_SIZES)), len(_ASKED_SIZES)
    if claim == "potentials":
        return len(there), _ASKED_STRUCTURES * len(_POTENTIALS)
    return len(there), _PICTURES


def _open(claim: str, found: Any) -> bool:  # noqa: ANN401 - JSON
    there, asked = _counts(claim, found)
    return there < asked


def _so_far(claim: str, found: Any) -> str:  # noqa: ANN401 - JSON
    there, asked = _counts(claim, found)
    return f" ({there} of {asked} runs)" if there else ""


def _text(claim: str, found: Any) -> str:  # noqa: ANN401 - JSON
    if not found:
        return _NOT_YET
    return _TEXTS[claim](found)


# ------------------------------------------------------------------ trainings


def _errors(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean error of each run on each set, over its seeds, Å."""
    every: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, of_set in row["sets"].items():
            every[row["run"]][name].append(of_set["network"]["mae"])
    return {run: {name: fmean(errors) for name, errors in sets.items()} for run, sets in every.items()}


def _ratio(errors: dict[str, dict[str, float]], run: str, beside: str, density: str = "") -> float:
    """Return the error of a run divided by that of another, the mean over the sets of a density."""
    return fmean(errors[run][name] / errors[beside][name] for name in errors[beside] if name.startswith(density))


def _percent(ratio: float) -> str:
    return f"{abs(1 - ratio) * 100:.0f} % {'lower' if ratio < 1 else 'higher'}"


def _beside_twin(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return our error divided by that of the network without markers, at low and at high density."""
    errors = _errors(rows)
    low, high = (_ratio(errors, "published form", "no markers", density) for density in ("low", "high"))
    return low, high


def _twin(rows: Sequence[dict[str, Any]]) -> str:
    if _open("twin", rows):
        return "one of two trainings"
    low, high = _beside_twin(rows)
    return f"{_percent(low)} at low density, {_percent(high)} at high density"


def _ablations(rows: Sequence[dict[str, Any]]) -> str:
    errors = _errors(rows)
    beside = [f"{run} {_percent(_ratio(errors, run, 'published form'))}" for run in errors if run != "published form"]
    return f"error beside the published form: {', '.join(beside)}" if beside else "one of the networks"


def _data_size(rows: Sequence[dict[str, Any]]) -> str:
    errors = _errors(rows)
    if "100%" not in errors:
        return f"{len(errors)} of 4 trainings"
    times = [f"{_ratio(errors, part, '100%'):.2f} times with {part}" for part in errors if part != "100%"]
    return f"error beside that with all data: {', '.join(times)}"


_MOVES = {
    "high to low density": "low to low density",
    "low to high density": "high to high density",
    "short to long pairs": "long to long pairs",
    "long to short pairs": "short to short pairs",
}


def _transfer(rows: Sequence[dict[str, Any]]) -> str:
    errors = _errors(rows)
    known = {run: home for run, home in _MOVES.items() if run in errors and home in errors}
    if not known:
        return f"{len(errors)} of 8 trainings"
    times = [f"{run} {_ratio(errors, run, home):.1f} times" for run, home in known.items()]
    return f"error beside a network that learned the target: {', '.join(times)}"


# ------------------------------------------------------------------ relaxations


def _accuracy(evaluation: dict[str, Any]) -> str:
    lower = {name: 1 - one["mae"] / one["dummy_host"] for name, one in evaluation["sets"].items()}
    high, low = ([v for name, v in lower.items() if name.startswith(density)] for density in ("high", "low"))
    texts = (_range(part) for part in (high, low))
    return "{} below the host's own motion at high density, {} at low".format(*texts)


def _steps_left(rows: Sequence[dict[str, Any]], start: str = "predicted") -> dict[int, float]:
    """Return the mean ionic steps from a start in each supercell, over the configurations that all of them have."""
    sizes: dict[int, dict[str, int]] = defaultdict(dict)
    for row in rows:
        sizes[row["size"]][row["configuration"]] = row["steps"][start]
    shared = set.intersection(*map(set, sizes.values())) if sizes else set()
    return {size: fmean(sizes[size][name] for name in shared) for size in sorted(sizes) if shared}


def _size(rows: Sequence[dict[str, Any]]) -> str:
    left, whole = (_steps_left(rows, start) for start in ("predicted", "unrelaxed"))
    means = (", ".join(f"{mean:.1f}" for mean in steps.values()) for steps in (left, whole))
    return "{} steps left in {} (unrelaxed {})".format(next(means), ", ".join(f"{n} x {n}" for n in left), next(means))


def _stem(rows: Sequence[dict[str, Any]]) -> str:
    lower = [1 - row["errors"]["near"]["network"] / row["errors"]["near"]["dummy"] for row in rows]
    return f"errors near the vacancies {_range(lower)} below no motion, defects: {len(rows)} of {_PICTURES}"


def _range(parts: Sequence[float]) -> str:
    least, most = f"{min(parts) * 100:.0f}", f"{max(parts) * 100:.0f}"
    return f"{least} %" if least == most else f"{least} to {most} %"


def _potentials(rows: Sequence[dict[str, Any]]) -> str:
    texts = []
    for name in dict.fromkeys(row["potential"] for row in rows):
        of_name = [row for row in rows if row["potential"] == name]
        nearer = sum(row["network"] < min(row["relaxed"], row["without_host"]) for row in of_name)
        texts.append(f"{name} in {nearer} of {len(of_name)} structures")
    return f"nearer to DFT than {', '.join(texts)}"


_TEXTS: dict[str, Callable[[Any], str]] = {
    "accuracy": _accuracy,
    "twin": _twin,
    "ablations": _ablations,
    "data-size": _data_size,
    "transfer": _transfer,
    "size": _size,
    "stem": _stem,
    "potentials": _potentials,
}
