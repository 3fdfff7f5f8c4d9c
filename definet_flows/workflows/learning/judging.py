"""How a challenger can be judged with the labels that there are, and what is missing where it cannot."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from definet_flows.hosts import shipped_hosts
from definet_flows.stores.learning.folds import FOLDS, LEAST_LABELS, can_be_folded, with_validation
from definet_flows.stores.learning.splits import SHARES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from definet_flows.stores.learning.training_set import TrainingEntry, TrainingSet

LEAST_HELD_OUT = 8
"""Held-out configurations of a host below which nothing can be claimed of it but by cross-validation."""

HELD_OUT_FROM = round(LEAST_HELD_OUT / SHARES["test"])
"""Configurations of a host of which about `LEAST_HELD_OUT` are held out."""

_NO_FILES = ("", "Structure", "Atoms")  # sources of hosts that came as objects


@dataclass(frozen=True)
class Judging:
    """How a challenger is judged.

    Attributes
    ----------
    claims
        Hosts, by formula, that it may claim to know; empty: there are too few labels.
    folds
        0: on configurations that are held out; else by cross-validation over so many folds.
    lacking
        What is missing; empty if nothing is.
    """

    claims: tuple[str, ...] = ()
    folds: int = 0
    lacking: str = ""


def judging(training: TrainingSet) -> Judging:
    """Return how a challenger trained on these labels is judged: held-out configurations before cross-validation."""
    claims = claimable(training)
    if claims and training.of_split("val"):
        return Judging(claims)
    by_host: dict[str, list[str]] = defaultdict(list)
    for entry in training.entries:
        by_host[entry.host.formula].append(entry.motif)
    claims = tuple(sorted(host for host, motifs in by_host.items() if can_be_folded(motifs)))
    usable = with_validation(training)
    if claims and usable.of_split("train") and usable.of_split("val"):
        return Judging(claims, FOLDS)
    return Judging(lacking=_lacking(training.entries))


def claimable(training: TrainingSet) -> tuple[str, ...]:
    """Return the hosts, by formula, with entries to learn from and enough that are held out."""
    learned = {entry.host.formula for entry in training.of_split("train")}
    held_out = [entry.host.formula for entry in training.of_split("test")]
    return tuple(sorted(host for host in learned if held_out.count(host) >= LEAST_HELD_OUT))


def needed(there: int, motifs: int) -> str:
    """Return what is needed where so many configurations of a host, with so many motifs, are too few.

    Parameters
    ----------
    there
        Configurations.
    motifs
        Different sets of defects and distances among them.
    """
    if there >= LEAST_LABELS and motifs < FOLDS:
        return f"only {motifs} of them differ in defects or distances, {FOLDS} are needed for cross-validation"
    return f"{LEAST_LABELS} are needed for cross-validation, about {HELD_OUT_FROM} to hold {LEAST_HELD_OUT} out"


def _lacking(entries: Iterable[TrainingEntry]) -> str:
    every = list(entries)
    if not every:
        return f"no configuration to learn from, {LEAST_LABELS} of a host are needed: relax some"
    ((formula, there),) = Counter(entry.host.formula for entry in every).most_common(1)
    mine = [entry for entry in every if entry.host.formula == formula]
    motifs = len({entry.motif for entry in mine})
    return f"{there} configurations of {formula}, {needed(there, motifs)}: relax more, such as `{_command(mine)}`"


def _command(entries: list[TrainingEntry]) -> str:
    """Return the command whose configurations have a defect more than those of the entries."""
    host = entries[0].host
    kinds = sorted({name for entry in entries for name in entry.name.split("+")})
    most = max(entry.n_defects for entry in entries) + 1
    defects = " ".join(f"--defect {name}" for name in kinds)
    repeats = " ".join(str(abs(host.matrix[k][k])) for k in range(3))
    source = host.provenance.get("source", "").rpartition("/")[2]
    name = source.removesuffix(".cif")
    host_of_command = name if name in shipped_hosts() else "HOST" if source in _NO_FILES else quote(source)
    return f"definet run {host_of_command} --supercell {repeats} {defects} --max-defects {most}"
