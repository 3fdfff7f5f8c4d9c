"""Extended XYZ: its frames."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from definet_flows.hosts.atoms import atomic_number

if TYPE_CHECKING:
    from ase import Atoms


def read_frames(text: str) -> list[Atoms]:
    """Return the frames of an extended XYZ file.

    Raises
    ------
    ValueError, KeyError, OSError
        By ASE, if the text is no extended XYZ.
    InputError
        If an atom is an isotope or a dummy.
    """
    import ase.io  # noqa: PLC0415 - loads most of scipy, half a second

    try:
        read = ase.io.read(io.StringIO(text.removeprefix("\ufeff")), index=":", format="extxyz")
    except KeyError as error:  # ASE's complaint about a symbol it does not know is the symbol
        atomic_number(str(error.args[0]))
        raise
    frames = read if isinstance(read, list) else [read]
    for atoms in frames:
        if (atoms.numbers == 0).any():
            atomic_number("X")
    return frames
