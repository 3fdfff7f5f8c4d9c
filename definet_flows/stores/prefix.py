"""Names by the beginning of a hash: a beginning that several hashes share is refused, with the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHOWN = 12  # characters of a hash that a person reads
_LISTED = 20

Named = tuple[str, str]
"""A hash, and the name that a person knows; the name may be empty."""


def beginning_with(ref: str, known: Iterable[Named], shortest: int = 1) -> list[Named]:
    """Return the named hashes that begin so, sorted; a whole hash names itself only.

    Parameters
    ----------
    ref
        The beginning of a hash, or all of it.
    known
        What there is.
    shortest
        Fewer characters name nothing.
    """
    every, given = sorted(set(known)), ref.strip().lower()
    whole = [named for named in every if named[0] == given]
    return whole or [named for named in every if len(given) >= shortest and named[0].startswith(given)]


def only(ref: str, known: Iterable[Named], what: str, where: str, shortest: int = 1) -> Named:
    """Return the only hash that begins so.

    Parameters
    ----------
    ref, known, shortest
        As in `beginning_with`.
    what, where
        What is looked for, and where, in words, in the plural: "settings", "record store 'campaign'".

    Raises
    ------
    InputError
        If none begins so, or several do; the candidates are listed.
    """
    every = sorted(set(known))
    found = beginning_with(ref, every, shortest)
    if not found:
        msg = f"no {what} {ref!r} in {where}: {listed(every) or 'it has none yet'}"
        raise InputError(msg)
    if len(found) > 1:
        msg = f"several {what} in {where} match {ref!r}: {listed(found)}; give more characters"
        raise InputError(msg)
    return found[0]


def listed(some: Sequence[Named]) -> str:
    """Return candidates in words, each hash as long as needed to be distinct."""
    hashes = {whole for whole, _ in some}
    size = next((n for n in range(_SHOWN, 64) if len({whole[:n] for whole in hashes}) == len(hashes)), 64)
    shown = [f"{name} ({whole[:size]})" if name else whole[:size] for whole, name in some[:_LISTED]]
    return ", ".join(shown) + (f" and {len(some) - _LISTED} more" if len(some) > _LISTED else "")
