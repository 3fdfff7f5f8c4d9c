"""Damaged files of every kind: read or refused in one line; `nox -s fuzz` tries 300 of each."""

from __future__ import annotations

import os
import subprocess
import sys

import fuzz_readers
import pytest

COUNT = os.environ.get("DEFINET_FUZZ", "10")
KINDS = (
    "POSCAR", "CIF", "extxyz", "JSON", "host POSCAR", "host CIF", "host JSON", "vasprun", "OUTCAR", "frames", "recipe",
    "placement", "settings", "weights", "published", "configurations", "store",
)  # fmt: skip


@pytest.fixture(scope="module")
def table() -> dict[str, str]:
    """Return what became of each kind of file, read in a process that holds no other test's threads."""
    command = [sys.executable, fuzz_readers.__file__, COUNT]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line for line in printed.stdout.splitlines()[1:] if not line.startswith(" ")]
    kinds = {line[:16].strip(): line[16:] for line in rows}
    assert tuple(kinds) == KINDS, printed.stdout + printed.stderr
    return {**kinds, "faults": printed.stdout}


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_ends_in_a_traceback(table, kind):
    count, read, refused, faults = map(int, table[kind].split())
    assert faults == 0, table["faults"]
    assert read + refused == count == int(COUNT)
