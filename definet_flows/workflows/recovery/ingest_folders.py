"""The folders and files of a tree that hold a relaxation by VASP, and the reasons against others."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from definet_flows.errors import InputError
from definet_flows.ledger import Execution, Outcome
from definet_flows.ledger.vasp.charge import Charge, charge_of
from definet_flows.ledger.vasp.output.archives import archives, read_log
from definet_flows.ledger.vasp.output.names import OutputFile, is_backup, looks_like_output, output_file, output_files
from definet_flows.ledger.vasp.purpose import STATIC, no_relaxation
from definet_flows.ledger.vasp.relaxation import TRIALS, read_with_executions
from definet_flows.ledger.vasp.restarts import Run, broken_label
from definet_flows.workflows.engines.vasp.run import folder_name

_OUTPUTS = ("vasprun.xml", "OUTCAR")


@dataclass
class FoundRuns:
    """Runs in a tree.

    Attributes
    ----------
    found
        Folders of runs, and single files where a folder holds several runs.
    left_out
        Paths that look like output and are not read, with the reason.
    """

    found: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def find_places(tree: Path) -> FoundRuns:
    """Return the places of a tree in which VASP ran; linked folders are followed, each folder is read once."""
    places, seen, links = FoundRuns(), set[Path](), [tree]
    while links:
        top = links.pop(0)
        if top.resolve() in seen:
            places.left_out[str(top)] = f"a link to {top.resolve()}, which is read there"
            continue
        for folder in _folders(top, seen, links, places):
            _look(folder, places)
    places.found = [place for place in sorted(places.found) if not _is_trial(place, places.found)]
    return places


def _folders(top: Path, seen: set[Path], links: list[Path], places: FoundRuns) -> list[Path]:
    """Return a folder and those below it that were not seen; linked folders wait until all others are known."""

    def unreadable(error: OSError) -> None:
        places.left_out[str(error.filename)] = f"cannot be read: {error.strerror}"

    found = []
    for name, below, _ in os.walk(top, onerror=unreadable):
        folder = Path(name)
        linked = sorted(path for path in map(folder.joinpath, below) if path.is_symlink())
        links += linked
        below[:] = sorted(set(below) - {path.name for path in linked})
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            found.append(folder)
    return found


def _look(folder: Path, places: FoundRuns) -> None:
    """Add the runs of a folder."""
    files = sorted(folder.iterdir())
    outputs = [output for path in files if (output := output_file(path)) is not None and output.kind in _OUTPUTS]
    if any(not output.name for output in outputs) or any(archives(folder, read_log(folder)).values()):
        places.found.append(folder)
    named: dict[tuple[str, str], OutputFile] = {}
    for output in sorted(outputs, key=lambda output: (_OUTPUTS.index(output.kind), len(output.path.name))):
        if output.name:  # NAME.vasprun.xml holds more than NAME.OUTCAR
            named.setdefault((output.name.rstrip("._-"), output.label), output)
    places.found += [output.path for output in named.values()]
    for path in files:
        if path.is_symlink() and not path.exists() and output_file_name(path):
            places.left_out[str(path)] = f"a link to {path.readlink()}, which is not there"
        elif output_file(path) is None and looks_like_output(path) and not (outputs and is_backup(path)):
            places.left_out[str(path)] = "not the name of an output: vasprun.xml, OUTCAR, NAME.OUTCAR, OUTCAR.relax1"


def output_file_name(path: Path) -> bool:
    """Say whether a path has the name of an output."""
    return any(kind in path.name for kind in _OUTPUTS)


def _is_trial(place: Path, found: list[Path]) -> bool:
    """Say whether starting moments were tried in a folder: its steps are counted in the folder above."""
    return place.match(TRIALS) and place.parent in found


# ------------------------------------------------------------------ the run in a place


@dataclass(frozen=True)
class FoundRun:
    """A relaxation in a single place.

    Attributes
    ----------
    place
        Folder or file.
    run
        The executions; they decide which other run it continues.
    outcome
        Its end and its cost.
    charge
        Its charge, with notes.
    static
        Why it is no relaxation, if it is a static calculation; only the pristine host needs none.
    """

    place: Path
    run: Run
    outcome: Outcome
    charge: Charge
    static: str = ""

    @property
    def first(self) -> Execution:
        """The first execution with a known start."""
        return next(execution for execution in self.run.executions if execution.run.initial is not None)

    @property
    def complete(self) -> bool:
        """Whether it ended by itself, converged."""
        last = self.run.executions[-1].run
        return last.finished is not False and last.converged


def read_run(place: Path, root: Path) -> FoundRun:
    """Read the run in a place.

    Raises
    ------
    InputError
        If the place holds neither a relaxation of ions in a fixed cell nor a static calculation, or several, or the
        charge state is unknown.
    """
    where = folder_name(place)
    outcome, executions = read_with_executions(place, where=where)
    reason = no_relaxation(executions[-1]) or ""
    headless = all(execution.run.initial is None for execution in executions)
    if reason and (headless or STATIC not in reason):
        raise InputError(reason)
    named = (
        list(dict.fromkeys(output.label for output in output_files(place) if output.label)) if place.is_dir() else []
    )
    if broken := broken_label(executions, named):
        msg = f"{place} holds {broken[1:] if broken else 'a run'}, which does not begin where the run before it ended"
        raise InputError(f"{msg}: give each run a folder of its own")
    if headless:
        msg = f"{place}: the output breaks off before the first structure"
        raise InputError(msg)
    first = next(execution for execution in executions if execution.run.initial is not None)
    charge = charge_of(first, place, root)
    return FoundRun(place, Run(executions, charge.value, where), outcome, charge, reason)
