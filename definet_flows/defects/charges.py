"""Charge states of a configuration."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

from pymatgen.core import Composition, Element

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.core import Species

    from definet_flows.defects.kinds import Choices, DefectKind
    from definet_flows.schemas import Host

_USUAL = 0.25  # share of an element's compounds in the ICSD


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
    """Return the charges from 0 to the charge that fits oxidation states, all in between included.

    A vacancy takes minus the oxidation state of the missing atom, a substitution the difference of the two, an
    inserted atom its own. The host's are pymatgen's guess from its composition, where it is not ambiguous. A new
    element not in the host takes its common oxidation state of the same sign as the replaced element (the nearest,
    where it has none of that sign), or where it replaces nothing the largest in magnitude.

    Raises
    ------
    InputError
        If no oxidation states balance the host's formula, or several do and none is the usual.
    """
    states = _host_states(host.formula)
    old = None if kind.old is None else states[Element.from_Z(kind.old).symbol]
    charge = round(_state_of(kind.new, old, states) - (old or 0.0))
    step = 1 if charge >= 0 else -1
    return tuple(range(0, charge + step, step))


@lru_cache(maxsize=16)
def _host_states(formula: str) -> dict[str, float]:
    """Return the oxidation state of each element of a host.

    Of pymatgen's guesses the first in which elements of one column agree (Mo and W in MoWS2Se2) and each state is
    usual; with a single cation the first guess, usual or not (In +2 in InSe).
    """
    guesses = [dict(guess) for guess in Composition(formula).oxi_state_guesses()]
    if not guesses:
        msg = f"host {formula}: no oxidation states fit, so charges cannot be guessed; give charges per kind"
        raise InputError(msg)
    alike = [guess for guess in guesses if _columns_agree(guess)] or guesses
    usual = next((guess for guess in alike if all(_is_usual(*state) for state in guess.items())), None)
    if usual is not None:
        return usual
    first = alike[0]
    cations = {Element(symbol).group for symbol, state in first.items() if state > 0}
    if len(cations) > 1:
        listed = "; ".join(" ".join(f"{symbol}{state:+g}" for symbol, state in guess.items()) for guess in alike[:3])
        msg = f"host {formula}: its oxidation states are ambiguous ({listed}), so charges cannot be guessed"
        raise InputError(f"{msg}; give charges per kind, such as --charge v_{next(iter(first))}=0,-1")
    return first


def _columns_agree(states: Mapping[str, float]) -> bool:
    """Whether elements of one column of the periodic table, as cations or as anions, have one state."""
    seen: dict[tuple[int, bool], float] = {}
    return all(seen.setdefault((Element(el).group, state > 0), state) == state for el, state in states.items())


def _is_usual(symbol: str, state: float) -> bool:
    """Whether an oxidation state is common for an element, in pymatgen's list or by its share in the ICSD."""
    if state in (0, *Element(symbol).common_oxidation_states):
        return True
    entries: Mapping[Species, int] = Composition.oxi_prob or {}  # filled by the guess
    found = {ion.oxi_state: count for ion, count in entries.items() if ion.symbol == symbol and ion.oxi_state}
    return found.get(state, 0) > _USUAL * sum(found.values())


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
