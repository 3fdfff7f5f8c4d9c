"""Charge states of a configuration."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

from pymatgen.core import Composition, Element

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from definet_flows.defects.kinds import Choices, DefectKind
    from definet_flows.schemas import Host


def charges_of(host: Host, choices: Choices, content: Sequence[tuple[DefectKind, int]]) -> tuple[int, ...]:
    """Return the net charges to compute for a composition, ascending by absolute value.

    Parameters
    ----------
    host
        Gives the oxidation states when charges are guessed.
    choices
        `charges`: net charges for every configuration; or per kind, then all sums over its defects.
    content
        The kinds present and how many of each.
    """
    if isinstance(choices.charges, tuple):
        return tuple(dict.fromkeys(choices.charges))
    per_kind = [_of_kind(host, choices, kind) for kind, n in content for _ in range(n)]
    return tuple(sorted({sum(q) for q in itertools.product(*per_kind)}, key=lambda q: (abs(q), q)))


def _of_kind(host: Host, choices: Choices, kind: DefectKind) -> tuple[int, ...]:
    if isinstance(choices.charges, dict):
        return choices.charges.get(kind.name, (0,))
    return guess_charges(host, kind)


def guess_charges(host: Host, kind: DefectKind) -> tuple[int, ...]:
    """Return the charges from 0 to the one that fits oxidation states, all in between included.

    A vacancy takes minus the oxidation state of the missing atom, a substitution the difference of the two, an
    inserted atom its own. The host's are pymatgen's guess from its composition; a new element that is not in the host
    takes its common oxidation state of the same sign as the replaced one (its nearest, where it has none of that
    sign), or where it replaces nothing the largest in magnitude.

    Raises
    ------
    InputError
        If no oxidation states balance the host's formula.
    """
    states = _host_states(host.formula)
    old = None if kind.old is None else states[Element.from_Z(kind.old).symbol]
    charge = round(_state_of(kind.new, old, states) - (old or 0.0))
    step = 1 if charge >= 0 else -1
    return tuple(range(0, charge + step, step))


@lru_cache(maxsize=16)
def _host_states(formula: str) -> dict[str, float]:
    guesses = Composition(formula).oxi_state_guesses()
    if not guesses:
        msg = f"host {formula}: no oxidation states fit, so charges cannot be guessed; give charges per kind"
        raise InputError(msg)
    return dict(guesses[0])


def _state_of(number: int | None, replaced: float | None, states: dict[str, float]) -> float:
    if number is None:
        return 0.0
    element = Element.from_Z(number)
    if element.symbol in states:
        return float(states[element.symbol])
    common = element.common_oxidation_states or element.oxidation_states or (0,)
    if replaced is None:
        return float(max(common, key=lambda state: (abs(state), state)))
    return float(min(common, key=lambda state: (state * replaced < 0, abs(state - replaced), state)))
