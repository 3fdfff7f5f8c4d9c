"""Evaluation on a folder of the archive's layout: every metric, with what the network has to beat beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from rich import box
from rich.console import Group
from rich.table import Table

from definet_flows.errors import InputError
from definet_flows.model.data.archive import read_archive
from definet_flows.model.inference.predict import pair_displacements, pristine_displacements
from definet_flows.model.inference.uncertainty import Calibration, Sample, defect_motion, rank_correlation
from definet_flows.model.training.baselines import dummy, fit_additive, fit_host
from definet_flows.model.training.metrics import Metrics, Scores, join, score, summarize
from definet_flows.schemas import FloatArray, Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from definet_flows.model.data.archive import PairSet
    from definet_flows.model.inference.checkpoint import Checkpoint
    from definet_flows.model.network.network import Network
    from definet_flows.model.training.baselines import Predictor

BASELINES = ("dummy", "dummy_host", "additive")
"""No motion; the host's own motion; the sum of single-defect fields."""

_FEWEST = 8  # structures of a set that calibrate the uncertainty
_NEAR = ("A3", "A4", "A5", "A6", "mae")
_COLORS = {"dummy": "#bbbbbb", "dummy_host": "#88aacc", "additive": "#ddaa33", "model": "#aa3344"}


class SetResult(Metrics):
    """The model's metrics on one set, and the coordinate MAE of the baselines."""

    dummy: float | None = Field(description="coordinate MAE of no motion, Å")
    dummy_host: float | None = Field(description="of the host's own motion, Å; None without a training split")
    additive: float | None = Field(description="of the sum of single-defect fields, Å; None without a training split")
    seconds_per_structure: float = Field(description="wall time of the network, its graph included, s")
    malformed: int = Field(description="entries of the set, in any split, that were left out")
    uncertainty_rank: float | None = Field(
        description="Spearman correlation of stated and true errors within the set; overall: mean over the sets"
    )
    uncertainty_ratio: float | None = Field(description="mean true error over mean stated error; overall: mean of sets")
    baselines: dict[str, Metrics] = Field(description="all metrics of each baseline there is")


class Evaluation(Frozen):
    """Metrics of a model on a split."""

    model: str = Field(description="registry id")
    weights: str = Field(description="sha256")
    split: str
    overall: SetResult = Field(description="over all structures of all sets; a baseline only if every set has it")
    sets: dict[str, SetResult]


@dataclass(frozen=True)
class _SetScores:
    """Structure by structure, of one set."""

    model: Scores
    baselines: dict[str, Scores]
    seconds: float  # s, all structures
    malformed: int
    stated: tuple[float, float] = (np.nan, np.nan)  # rank and ratio of the stated uncertainty


def evaluate(root: Path, split: str, checkpoint: Checkpoint, names: tuple[str, ...] = ()) -> Evaluation:
    """Evaluate a model on one split of every set under `root`.

    The baselines are fitted on the training split; a set without a training split, or with charges or inserted
    atoms, has only Dummy.

    Parameters
    ----------
    root
        Folder of the 2DMD archive's layout.
    split
        `train`, `val` or `test`.
    names
        Only these sets; all by default.

    Raises
    ------
    InputError
        If no set under `root` has an entry in that split.
    """
    sets = [pairs for pairs in read_archive(root, names) if len(pairs.split(split))]
    if not sets:
        msg = f"no entry of split {split!r} under {root}: each set lists its own in {split}.csv"
        raise InputError(msg)
    return evaluate_sets(sets, split, checkpoint)


def evaluate_sets(sets: Sequence[PairSet], split: str, checkpoint: Checkpoint) -> Evaluation:
    """Evaluate a model on one split of the sets that have entries in it; see `evaluate`."""
    scores = {pairs.name: _score_set(pairs, split, checkpoint) for pairs in sets if len(pairs.split(split))}
    if not scores:
        raise InputError(f"no entry of split {split!r} in {', '.join(pairs.name for pairs in sets)}")
    return Evaluation(
        model=checkpoint.name,
        weights=checkpoint.sha256,
        split=split,
        overall=_result(_pooled(list(scores.values()))),
        sets={name: _result(of_set) for name, of_set in scores.items()},
    )


def _score_set(pairs: PairSet, split: str, checkpoint: Checkpoint) -> _SetScores:
    entries = pairs.split(split)
    numbers, markers, truth = pairs.numbers[entries], pairs.markers[entries], pairs.relaxed[entries]
    start = time.perf_counter()
    predicted = pair_displacements(checkpoint.network, pairs, entries)
    seconds = time.perf_counter() - start

    def compared(predicted: FloatArray) -> Scores:
        return score(pairs.host, markers, truth, predicted, pairs.inserted)

    baselines = {name: compared(predictor(numbers, markers)) for name, predictor in fit_baselines(pairs)}
    scores = compared(predicted)
    stated = (np.nan, np.nan)
    if checkpoint.card.calibration is not None:
        sample = _sample(checkpoint.network, pairs, markers, predicted, scores.mae)
        estimates = checkpoint.card.calibration.estimate(sample.displacements, markers)
        stated = rank_correlation(estimates, scores.mae), float(scores.mae.mean() / estimates.mean())
    return _SetScores(scores, baselines, seconds, len(pairs.malformed), stated)


def calibrate(network: Network, sets: Iterable[PairSet], split: str = "val") -> Calibration | None:
    """Fit the uncertainty on every second structure of a split; None if there are too few to fit."""
    samples = {}
    for pairs in sets:
        entries = pairs.split(split)
        if len(entries) < _FEWEST:
            continue
        markers, truth = pairs.markers[entries], pairs.relaxed[entries]
        predicted = pair_displacements(network, pairs, entries)
        errors = score(pairs.host, markers, truth, predicted, pairs.inserted).mae
        samples[pairs.name] = _sample(network, pairs, markers, predicted, errors)
    return Calibration.fit(samples) if samples else None


def _sample(
    network: Network, pairs: PairSet, markers: npt.NDArray[np.integer], predicted: FloatArray, errors: FloatArray
) -> Sample:
    return Sample(defect_motion(predicted, pristine_displacements(network, pairs), markers), markers, errors)


def fit_baselines(pairs: PairSet) -> Iterator[tuple[str, Predictor]]:
    """Yield the baselines by name; those to be fitted only where there is a training split."""
    training = pairs.split("train")
    yield "dummy", dummy
    if len(training) and not pairs.inserted and not any(pairs.charges):
        yield "dummy_host", fit_host(pairs, training)
        yield "additive", fit_additive(pairs, training)


def _pooled(sets: list[_SetScores]) -> _SetScores:
    """Take the structures of all sets as one set."""
    common = [name for name in BASELINES if all(name in s.baselines for s in sets)]
    return _SetScores(
        model=join([s.model for s in sets]),
        baselines={name: join([s.baselines[name] for s in sets]) for name in common},
        seconds=sum(s.seconds for s in sets),
        malformed=sum(s.malformed for s in sets),
        stated=tuple(np.mean([s.stated for s in sets], axis=0).tolist()),
    )


def _result(scores: _SetScores) -> SetResult:
    model = summarize(scores.model)
    baselines = {name: summarize(of_baseline) for name, of_baseline in scores.baselines.items()}
    return SetResult(
        **{field: getattr(model, field) for field in Metrics.model_fields},
        **{name: baselines[name].mae if name in baselines else None for name in BASELINES},
        seconds_per_structure=scores.seconds / model.n,
        malformed=scores.malformed,
        uncertainty_rank=_finite(scores.stated[0]),
        uncertainty_ratio=_finite(scores.stated[1]),
        baselines=baselines,
    )


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if np.isfinite(value) else None


# ------------------------------------------------------------------ to be looked at


def table(evaluation: Evaluation) -> Group:
    """Return the headline metrics as two tables that fit 80 columns, Å."""
    errors = _table(f"{evaluation.model} on {evaluation.split}, Å")
    for head in ("n", "MAE", "Dummy", "D.-host", "Additive", "A3", "A6"):
        errors.add_column(head, justify="right")
    tails = _table("largest error in a structure, Å; hops found; rank of the uncertainty")
    for head in ("median MAE", "median", "95 %", "hops", "unc.", "ms"):
        tails.add_column(head, justify="right")
    for name, result in (*evaluation.sets.items(), ("overall", evaluation.overall)):
        label = name.replace("_density_defects", "")
        lengths = (result.mae, result.dummy, result.dummy_host, result.additive, result.A3, result.A6)
        last = name == list(evaluation.sets)[-1]
        errors.add_row(label, str(result.n), *(_number(x, 4) for x in lengths), end_section=last)
        tails.add_row(
            label,
            *(_number(*x) for x in ((result.median, 4), (result.max_error_median, 3), (result.max_error_p95, 3))),
            "-" if result.hop_recall is None else f"{result.hop_recall:.0%} of {result.hops}",
            _number(result.uncertainty_rank, 2),
            _number(1000 * result.seconds_per_structure, 1),
            end_section=last,
        )
    return Group(errors, tails)


def _table(title: str) -> Table:
    shown = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    shown.add_column("set", no_wrap=True)
    return shown


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def draw(evaluation: Evaluation, path: Path) -> None:
    """Write a PNG of the errors near defects (A_3 to A_6) and over all atoms, model beside baselines, set by set.

    After Fig. 3 of doi:10.1038/s41524-025-01728-w.
    """
    columns = min(4, len(evaluation.sets))
    rows = -(-len(evaluation.sets) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.8 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (name, result) in zip(panels, evaluation.sets.items(), strict=False):
        bars: dict[str, Metrics] = {**result.baselines, "model": result}
        for k, (label, metrics) in enumerate(bars.items()):
            heights = [getattr(metrics, field) or 0.0 for field in _NEAR]
            x = np.arange(len(_NEAR)) + (k - (len(bars) - 1) / 2) * 0.8 / len(bars)
            panel.bar(x, heights, 0.8 / len(bars), color=_COLORS[label], label=label.replace("_", "-"))
        panel.set_title(name.replace("_density_defects/", " density, "), fontsize=9)
        panel.set_xticks(range(len(_NEAR)), ["$A_3$", "$A_4$", "$A_5$", "$A_6$", "all"])
    for panel in panels[len(evaluation.sets) :]:
        panel.remove()
    for panel in panels[::columns]:
        panel.set_ylabel("mean |error|, Å")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=150, format="png")
