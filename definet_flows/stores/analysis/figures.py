"""The figures of a saving: the headline, and everything that is not in it."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, computed_field

from definet_flows.errors import InputError
from definet_flows.schemas import Frozen

GroupBy = Literal["host", "name", "n_defects", "charge", "n_sites", "prerelaxer", "weights", "engine"]
"""Host, defect kinds, their number, net charge, size of the supercell, pre-relaxer, its key (model version), engine."""

UNASKED = "none"
"""Group, by weights, of the relaxations of configurations that no weights were asked about."""

UNKNOWN = "unknown"
"""Group, by charge, of pairs whose records cannot be read."""


class Spending(Frozen):
    """The whole cost of a campaign, and its cost from unrelaxed starts."""

    predicted: int | float = Field(description="relaxations from predictions")
    controls: int | float = Field(
        description="relaxations from unrelaxed starts whose configuration is also relaxed from a prediction"
    )
    without_prediction: int | float = Field(
        description="relaxations from unrelaxed starts of gated or not predicted configurations"
    )
    hosts: int | float = Field(description="relaxations of bulk supercells")
    failed: int | float = Field(description="relaxations that failed or have not finished")
    prerelaxing: float | None = Field(
        default=None, description="the proposals of pre-relaxers; None where none is known in this unit"
    )
    unknown: int = Field(default=0, description="relaxations whose ledger does not tell this cost; not in the sums")
    baseline: float | None = Field(
        description="the same configurations from unrelaxed starts: measured where there is a control, else the cost "
        "from the prediction times unrelaxed / predicted of the pairs; None without pairs"
    )

    @property
    def total(self) -> int | float:
        """Sum of all computed relaxations, and of what pre-relaxing is known to have cost."""
        return self._relaxations + (self.prerelaxing or 0)

    @property
    def stated(self) -> bool:
        """Whether any ledger tells this cost; if none does, its sums are unknown, not 0 or that of the proposals."""
        return self._relaxations > 0 or not self.unknown

    @property
    def _relaxations(self) -> int | float:
        return self.predicted + self.controls + self.without_prediction + self.hosts + self.failed

    @property
    def net(self) -> float | None:
        """Saving net of controls, host relaxation, failures and pre-relaxing; None where nothing can be said."""
        return 1 - self.total / self.baseline if self.baseline else None


class Quantity(Frozen):
    """A cost (ionic steps, electronic steps or core-hours) over the pairs in the same minimum that know it."""

    pairs: int = Field(description="pairs that know this cost from both starts")
    unrelaxed: float | None = Field(description="sum over the relaxations from unrelaxed starts; None without pairs")
    predicted: float | None = Field(description="sum over the relaxations from predictions; None without pairs")
    saving: float | None = Field(description="1 - predicted / unrelaxed; None without pairs")
    interval: tuple[float, float] | None = Field(
        description="95 % interval of `saving`, configurations as independent draws; None below five of them"
    )
    interval_reason: str | None = Field(default=None, description="why there is no interval; None where there is")
    median_unrelaxed: float | None
    median_predicted: float | None
    median_saving: float | None = Field(description="median over pairs of 1 - predicted / unrelaxed")
    campaign: float | None = Field(
        description="saving over all predicted configurations; gated-out configurations save nothing; None without "
        "pairs, or where the cost of a gated-out configuration is unknown"
    )
    spending: Spending


class Proposals(Frozen):
    """What the proposals of pre-relaxers cost; sums are over those that state it, None where none does."""

    count: int = Field(description="proposals for configurations that have a relaxation, rejected ones too")
    seconds: float | None = Field(description="wall time, s")
    without_seconds: int = Field(description="proposals that state no wall time")
    core_hours: float | None = Field(description="busy cores times wall time, h")
    without_core_hours: int = Field(description="proposals that state no cores")


class Savings(Frozen):
    """The saving of the pairs in the same minimum, and the counts of all else."""

    ionic: Quantity
    electronic: Quantity
    core_hours: Quantity
    seconds: Spending = Field(description="wall time of the campaign in all, s")
    proposals: Proposals
    same_minimum: int
    better_minimum: int
    other_minimum: int
    unconverged: int
    not_comparable: int = Field(description="pairs whose inputs differ in more than the positions")
    ceiling: float | None = Field(
        description="the ionic saving if every relaxation from a prediction took the fewest evaluations that its "
        "optimiser can: a line search of conjugate gradient is three; None without pairs"
    )
    gated: int = Field(description="configurations whose prediction was rejected, relaxed from the unrelaxed start")
    without_control: int = Field(default=0, description="configurations relaxed from a prediction only")
    not_compared: int = Field(default=0, description="configurations relaxed from both starts, if no pair is stored")
    failed: int = Field(description="relaxations that failed")
    running: int = Field(description="relaxations not finished")

    @property
    def saving(self) -> float | None:
        """The headline: 1 - sum(predicted) / sum(unrelaxed) of ionic steps over pairs in the same minimum."""
        return self.ionic.saving

    @computed_field  # type: ignore[prop-decorator]
    @property
    def campaign(self) -> float | None:
        """Ionic saving over all predicted configurations; gated-out configurations save nothing."""
        return self.ionic.campaign

    @computed_field  # type: ignore[prop-decorator]
    @property
    def spending(self) -> Spending:
        """Ionic steps of the campaign in all."""
        return self.ionic.spending

    @property
    def pairs(self) -> int:
        """All pairs, whatever their verdict."""
        compared = self.same_minimum + self.better_minimum + self.other_minimum
        return compared + self.unconverged + self.not_comparable

    @property
    def message(self) -> str:
        """A line with the saving, or with the reason why there is none."""
        if self.saving is not None:
            return f"{self.saving:.1%} of ionic steps saved; pairs in the same minimum: {self.same_minimum}"
        if self.pairs:
            return f"no saving can be stated: pairs converged in the same minimum: none of {self.pairs}"
        if self.spending.total or self.gated or self.failed or self.running:
            return f"no saving can be stated: {self._without_pairs}"
        return "no relaxations match: the store is empty or the filters exclude everything in it"

    @property
    def _without_pairs(self) -> str:
        """Return why there are no pairs: every reason with its number."""
        reasons = {
            "have no control (raise the control fraction; if it is 1, theirs has not begun)": self.without_control,
            "were gated out: the gate rejected the prediction": self.gated,
            "are not compared yet (definet records build)": self.not_compared,
        }
        found = [f"{count} {reason}" for reason, count in reasons.items() if count]
        for count, what in ((self.failed, "failed (definet retry)"), (self.running, "not finished")):
            found += [f"relaxations {what}: {count}"] if count else []
        if not found:
            return "no configuration was relaxed from a prediction"
        return f"no configuration was relaxed from both starts; of the configurations {', '.join(found)}"


def sum_in_words(total: float | None, stated: int, of: int, form: str = "g") -> str:
    """Return a sum and of how many it is: `12.3 (of 10 of 12)`; a dash if none of them states the cost.

    Parameters
    ----------
    total
        Sum over those that state it.
    stated, of
        How many state it, and how many there are.
    form
        Format of the sum.
    """
    if total is None or (of and not stated):
        return "-"
    return f"{total:{form}}" if stated == of else f"{total:{form}} (of {stated} of {of})"


def check_group(by: str) -> None:
    """Refuse an unknown grouping.

    Raises
    ------
    InputError
        If there is no such grouping; names those that exist.
    """
    if by not in get_args(GroupBy):
        msg = f"records are not grouped by {by!r}: choose from {', '.join(get_args(GroupBy))}"
        raise InputError(msg)
