"""Options that several commands share, each said once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from definet_flows.atomic import plain_file
from definet_flows.errors import InputError

_LARGEST = 2**63 - 1  # databases and JSON hold no larger whole numbers
NONE: list[str] = []
NO_SHARES: list[float] = []


def three_values(param: typer.CallbackParam, given: tuple[str, str, str] | None) -> tuple[str, str, str] | None:
    """Refuse the name of the next option in place of a number: the parser takes it for a value.

    Raises
    ------
    InputError
        If one of the three values begins like an option.
    """
    for value in given or ():
        if value.startswith("--"):
            msg = f"{param.opts[0]} {' '.join(given or ())}: three numbers are needed, {value} is none"
            raise InputError(msg)
    return given


Host = Annotated[
    str,
    typer.Argument(
        help="File of the host's unit cell (CIF, POSCAR, ...) or a shipped host: MoS2, WSe2, BN, GaSe, InSe, P."
    ),
]
SupercellOption = Annotated[
    tuple[str, str, str] | None,
    typer.Option(
        "--supercell",
        metavar="A B C",
        callback=three_values,
        help="Repetitions of the unit cell, whole numbers.  \\[default: that of --preset, else the smallest with "
        "images 12 Å apart]",
    ),
]
MinImage = Annotated[
    float | None, typer.Option(help="Instead of --supercell: smallest supercell with images this far apart, Å.")
]
Vacuum = Annotated[
    float | None, typer.Option(help="Layers: set the gap to the periodic image, Å.  \\[default: as in the file]")
]
Symprec = Annotated[float, typer.Option(help="Host: atoms within this many Å of a symmetry are put exactly there.")]
SYMPREC = 0.01
"""That of `definet_flows.hosts`, whose import takes seconds."""
Dimensionality = Annotated[
    int | None,
    typer.Option(min=2, max=3, help="Host: 2 for a layer, 3 for a bulk crystal.  \\[default: from bonds and gaps]"),
]
Defect = Annotated[
    list[str],
    typer.Option(
        "--defect",
        help="Defect by name, again for each: v_S (vacancy), W_Mo (W on Mo), Li_i (inserted), v_S@12 (by site).",
    ),
]
MaxDefects = Annotated[
    int | None,
    typer.Option(max=_LARGEST, help="Most defects in a configuration.  \\[default: 1, or the sum of --max-on]"),
]
MinDefects = Annotated[int, typer.Option(min=1, max=_LARGEST, help="Fewest defects in a configuration.")]
MaxOn = Annotated[
    list[str], typer.Option("--max-on", help="Most defects on an element of the host, as Mo=1; again for each.")
]
MaxKind = Annotated[list[str], typer.Option("--max-kind", help="Most defects of a kind, as v_S=2; again for each.")]
MinDistance = Annotated[float | None, typer.Option(help="Shortest distance between two defects, Å.")]
MaxDistance = Annotated[float | None, typer.Option(help="Longest distance between two defects, Å.")]
Charge = Annotated[
    list[str],
    typer.Option(
        "--charge",
        help="Net charge in e, again for each; or per kind, as v_S=0,+1,+2; or guess, from oxidation states."
        "  \\[default: 0]",
    ),
]
Concentration = Annotated[
    list[float],
    typer.Option("--concentration", help="Random configurations with this share of defective sites, 0 to 1."),
]
PerConcentration = Annotated[
    int | None, typer.Option(min=1, max=_LARGEST, help="Configurations for each --concentration.  \\[default: 100]")
]
Seed = Annotated[
    int, typer.Option(min=-_LARGEST, max=_LARGEST, help="Seed of the random configurations; the same on every machine.")
]
Preset = Annotated[
    str | None,
    typer.Option(help="Recipe of a published data set, for its hosts: 2dmd-low or 2dmd-high; brings all choices."),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Record store: a name from the settings, or a .sqlite file.  \\[default: the settings' record_store]",
    ),
]
Placement = Annotated[
    Path | None,
    typer.Option(
        "--placement", help="YAML: which worker runs which kind of job.  \\[default: categories gpu, cpu, light]"
    ),
]
DEFAULT_MODEL = "definet-2dmd"
_MODEL = (
    "Registry id of the weights (see models list) or the beginning of their sha256, a .safetensors file, or champion "
    "(of the record store; in run, of these settings)."
)
Model = Annotated[str, typer.Option("--model", help=_MODEL)]
CampaignModel = Annotated[
    str | None,
    typer.Option("--model", help=f"{_MODEL} Given alone, it proposes all starts.  \\[default: {DEFAULT_MODEL}]"),
]
PreRelaxers = Annotated[
    list[str],
    typer.Option(
        "--prerelaxer",
        help="What proposes the starts: definet, fields (of the store's records), potential:sevennet, "
        "potential:sevennet-l3i5, potential:chgnet, a chain such as fields+potential:sevennet; again for each: one "
        "control serves all.  \\[default: auto, by what each has saved]",
    ),
]
IncarTags = Annotated[
    list[str],
    typer.Option(
        "--incar",
        metavar="KEY=VALUE",
        help="VASP: an INCAR tag in place of the default, such as ENCUT=520; again for each. Records of other settings "
        "are never compared.",
    ),
]
KpointMesh = Annotated[
    tuple[str, str, str] | None,
    typer.Option(
        "--kpoints",
        metavar="N N N",
        callback=three_values,
        help="VASP: mesh around Γ; 1 1 1 is Γ alone.  \\[default: 1 1 1]",
    ),
]
WriteInputs = Annotated[
    Path | None,
    typer.Option(
        "--write-inputs",
        help="VASP: write POSCAR, INCAR, KPOINTS, POTCAR (without POTCARs here POTCAR.spec) of the unrelaxed start of "
        "each configuration to this new folder, and run nothing.",
    ),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result to this file as JSON.")]


def parse_supercell(repetitions: tuple[str, str, str]) -> tuple[int, int, int]:
    """Return the repetitions as numbers.

    Raises
    ------
    InputError
        If a repetition is no whole number above zero.
    """
    for repetition in repetitions:
        if not repetition.isdecimal() or _whole(repetition, "--supercell") == 0:
            msg = f"--supercell {' '.join(repetitions)}: {repetition} is no whole number above zero"
            raise InputError(msg)
    a, b, c = map(int, repetitions)
    return a, b, c


def _whole(digits: str, option: str) -> int:
    """Return a whole number of at most 64 bits: Python refuses thousands of digits, databases many fewer."""
    if len(digits) > 18:  # noqa: PLR2004 - digits
        raise InputError(f"{option}: {digits[:20]}… is too large a number")
    return int(digits)


def parse_limits(items: list[str], option: str) -> dict[str, int]:
    """Return {name: number} of options such as Mo=1.

    Raises
    ------
    InputError
        If an item does not have that form.
    """
    limits = {}
    for item in items:
        name, _, number = item.partition("=")
        if not name or not number.isdecimal():
            msg = f"{option} {item}: write a name and a whole number, such as Mo=1"
            raise InputError(msg)
        limits[name] = _whole(number, f"{option} {item}")
    return limits


def parse_charges(items: list[str]) -> tuple[int, ...] | dict[str, tuple[int, ...]] | Literal["guess"]:
    """Return the charges of options such as -1, v_S=0,+1,+2 or guess; nothing given means neutral.

    Raises
    ------
    InputError
        If an item has no such form, or the forms are mixed.
    """
    from definet_flows.schemas.configuration import MOST_CHARGED

    if items == ["guess"]:
        return "guess"
    per_kind: dict[str, tuple[int, ...]] = {}
    charges: list[int] = []
    for item in items:
        name, equals, numbers = item.rpartition("=")
        try:
            states = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            states = ()
        if any(abs(state) > MOST_CHARGED for state in states):
            raise InputError(f"--charge {item}: at most {MOST_CHARGED} elementary charges")
        if not states or (equals and not name) or (per_kind if not equals else charges):
            msg = f"--charge {item}: give -1 for every configuration, v_S=0,+1,+2 for a kind, or guess alone; not mixed"
            raise InputError(msg)
        if equals:
            per_kind[name] = (*per_kind.get(name, ()), *states)
        else:
            charges += states
    return per_kind or tuple(charges) or (0,)


def check_writable(path: Path | None) -> None:
    """Refuse an output file before the work, not after it.

    Raises
    ------
    InputError
        If its folder does not exist or cannot be written to, or it is no plain file.
    """
    if path is None:
        return
    folder = plain_file(path).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        msg = f"{path} cannot be written: is there a folder {folder} that you may write to?"
        raise InputError(msg)
