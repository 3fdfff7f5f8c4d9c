"""One rule for everything that is named by the beginning of its hash: what several match is refused, with the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SHOWN = 12  # characters of a hash that a person reads
_LISTED = 20


def beginning_with(ref: str, known: Iterable[str], shortest: int = 1) -> list[str]:
    """Return the hashes that begin so, sorted; the whole hash stands for itself, whatever else begins so."""
    every = set(known)
    if ref in every:
        return [ref]
    return sorted(one for one in every if len(ref) >= shortest and one.startswith(ref.lower()))


def only(ref: str, known: Mapping[str, str], what: str, where: str, shortest: int = 1) -> str:
    """Return the hash that begins so.

    Parameters
    ----------
    ref
        The beginning of a hash, or all of it.
    known
        What a person reads of each hash.
    what
        What is looked for, such as "settings".
    where
        What it is looked for in, such as "record store 'campaign'".
    shortest
        Fewer characters name nothing.

    Raises
    ------
    InputError
        If none or several begin so; the candidates are listed.
    """
    found = beginning_with(ref, known, shortest)
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"several {what} in {where} begin with {ref!r}: {listed(found, known)}; give more characters"
        raise InputError(msg)
    msg = f"no {what} {ref!r} in {where}: {listed(sorted(known), known) or 'it has none yet'}"
    raise InputError(msg)


def listed(hashes: list[str], known: Mapping[str, str]) -> str:
    """Return candidates in words: the beginning of each hash, as long as tells them apart, and what it stands for."""
    size = next(n for n in range(_SHOWN, 999) if len({one[:n] for one in hashes}) == len(hashes))
    shown = [f"{one[:size]} ({known[one]})" if known[one] else one[:size] for one in hashes[:_LISTED]]
    more = f" and {len(hashes) - _LISTED} more" if len(hashes) > _LISTED else ""
    return ", ".join(shown) + more
