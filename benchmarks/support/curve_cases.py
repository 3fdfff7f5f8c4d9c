"""What the learning curve of GaN learns from, in order, and what it is measured on; their relaxations."""

from __future__ import annotations

import time
from itertools import chain, combinations, zip_longest
from typing import TYPE_CHECKING

from benchmarks.learning import Task, relax
from benchmarks.starts_steps import CASES, Stage, host_of, store_of
from definet_flows import Choices
from definet_flows.defects import enumerate_configurations
from definet_flows.hosts import make_host
from definet_flows.stores import Filter, open_store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from definet_flows.schemas import Configuration, DefectRecord
    from definet_flows.stores import Records

HOST = "GaN"
KINDS = ("v_Ga", "v_N", "Ga_N", "N_Ga", "In_Ga", "Mg_Ga", "Ga_i", "N_i")
RECOMBINE = (("v_Ga", "Ga_i"), ("v_N", "N_i"))
"""Pairs that are not asked: the inserted atom may fall into the vacancy, which leaves no defect."""
FARTHEST = 5.6
"""Largest distance of the defects of a pair, Å."""
_CHUNK = 5  # relaxations between two progress lines


def cases() -> tuple[Task, Task]:
    """Return what is learned from, in order, and what is held out.

    Single defects come first, inserted atoms on each candidate position. Then come pairs, no two of a kind, in rounds:
    one of each combination of kinds, in an order that hashes draw. As long as there are pairs of `starts_steps.py`,
    every second pair is one of these. Every second combination of kinds holds a pair out.
    """
    host = make_host(host_of(HOST), CASES[HOST].supercell)

    def drawn(found: Iterable[Configuration]) -> list[Configuration]:
        return sorted(found, key=lambda one: one.id_in(host.hash))

    singles = drawn(enumerate_configurations(host, Choices(defects=KINDS, max_defects=1)))
    pairs = [
        drawn(enumerate_configurations(host, pairs_of(kinds)))
        for kinds in combinations(KINDS, 2)
        if kinds not in RECOMBINE
    ]
    held_out = [of_kinds.pop() for of_kinds in pairs[1::2]]
    stages: tuple[Stage, ...] = ("near pairs", "far pairs")
    known = drawn(chain.from_iterable(enumerate_configurations(host, CASES[HOST].choices(stage)) for stage in stages))
    known = [one for one in known if one not in held_out]
    turns = (drawn(filter(None, turn)) for turn in zip_longest(*pairs))
    new = [one for one in chain.from_iterable(turns) if one not in known]
    mixed = filter(None, chain.from_iterable(zip_longest(known, new)))
    return Task(HOST, host, (*singles, *mixed)), Task(HOST, host, tuple(held_out))


def pairs_of(kinds: tuple[str, str]) -> Choices:
    """Return the choices of pairs of two kinds."""
    return Choices(
        defects=kinds, min_defects=2, max_defects=2, max_per_kind=dict.fromkeys(kinds, 1), max_distance=FARTHEST
    )


def unrelaxed(records: Records, chosen: Task) -> dict[str, DefectRecord]:
    """Return the ended relaxations of a task from the unrelaxed start by configuration_id, in its order."""
    found = {
        record.configuration_id: record
        for record in records.records(Filter(configuration_ids=chosen.ids))
        if record.start == "unrelaxed" and record.status == "done"
    }
    return {one: found[one] for one in chosen.ids if one in found}


def converged(records: Records, chosen: Task) -> list[DefectRecord]:
    """Return those of them that converged."""
    return [record for record in unrelaxed(records, chosen).values() if _has_converged(record)]


def _has_converged(record: DefectRecord | None) -> bool:
    return record is not None and record.ledger is not None and record.ledger.converged


def missing(records: Records, chosen: Task, count: int) -> list[Configuration]:
    """Return what is to be relaxed of a task, in its order, so that its first `count` relaxations that converge end."""
    ended, enough = unrelaxed(records, chosen), 0
    left: list[Configuration] = []
    for configuration, one in zip(chosen.configurations, chosen.ids, strict=True):
        if enough + len(left) == count:
            break
        if one not in ended:
            left.append(configuration)
        enough += _has_converged(ended.get(one))
    return left


def labels(folder: Path, chosen: Task, count: int) -> None:
    """Relax configurations of a task in its order until so many have converged; what is stored is not run again."""
    store = str(store_of(folder, HOST))
    while True:
        with open_store(store) as records:
            left = missing(records, chosen, count)
        if not left:
            return
        part, begun = left[:_CHUNK], time.perf_counter()
        relax(folder, chosen, part, store=store, model=None, control=False)
        seconds = (time.perf_counter() - begun) / len(part)
        print(f"{time.strftime('%H:%M:%S')} {len(left)} to relax, {len(part)} done: {seconds:.0f} s each", flush=True)
