"""Prediction for files: thousands of structures in, the same structures pre-relaxed out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from definet_flows.atomic import write_whole
from definet_flows.errors import InputError
from definet_flows.schemas import Frozen, content_hash
from definet_flows.starts.proposals import PreRelaxer
from definet_flows.structures.crystal import Crystal
from definet_flows.structures.crystals import CrystalFile, Moved, extxyz_text, is_known, read_crystals
from definet_flows.structures.in_host import PredictedCrystal, predict_crystals
from definet_flows.structures.match import HostFinder

if TYPE_CHECKING:
    from ase import Atoms

REPORT = "predictions.json"
"""Name of the report in a folder of predictions."""

_CHUNK = 256  # structures between two writings
_ONE_FILE = (".xyz", ".extxyz")

Tell = Callable[[int, int], None]
"""Takes the number of files done and of all files."""


class ReportedStructure(Frozen):
    """One structure in the report."""

    source: str = Field(description="file it came from")
    index: int = Field(description="place in that file, from 0")
    output: str = Field(description="name it goes by: of the file in the folder, unless all go to one file")
    status: Literal["predicted", "failed"]
    verdict: Literal["accepted", "flagged", "rejected"] | None = Field(default=None, description="of the gate")
    in_domain: bool | None = None
    moved: bool = Field(
        default=False, description="the output holds the prediction; false: the structure as it came, also if rejected"
    )
    reason: str = ""
    note: str = Field(default="", description="what a reader must know")
    uncertainty: float | None = Field(default=None, description="expected mean |error|, Å")
    host: str | None = None
    inferred: str = Field(default="", description="what of host and supercell was not given")
    defects: str = Field(default="", description="names, such as v_S+W_Mo")
    largest_displacement: float | None = Field(default=None, description="Å")
    weights: str = Field(description="key of the pre-relaxer: for the network, sha256 of the weights")
    key: str = Field(description="hash of the file's content, the pre-relaxer and the options")

    def properties(self) -> dict[str, Any]:
        """Return what is written beside the structure, in formats with room for it."""
        names = {
            "status",
            "verdict",
            "moved",
            "in_domain",
            "reason",
            "note",
            "uncertainty",
            "host",
            "defects",
            "weights",
        }
        return self.model_dump(include=names | {"source", "largest_displacement"}, exclude_none=True)


# ------------------------------------------------------------------ files


def predict_files(
    prerelaxer: PreRelaxer,
    inputs: Sequence[Path],
    out: Path,
    finder: HostFinder,
    *,
    write_rejected: bool = False,
    tell: Tell | None = None,
) -> list[ReportedStructure]:
    """Predict the structures of files and write them with a report, file by file, in order.

    A structure whose prediction the gate rejects is written as it came. A file is not predicted again if its
    prediction by the same pre-relaxer in the same state exists.

    Parameters
    ----------
    inputs
        Files, and folders that are searched for files of known formats.
    out
        Folder that takes files of the same names and formats and the report `predictions.json`; or one file
        (.xyz, .extxyz) that takes all structures, with the report beside it.
    finder
        Finds each structure's host.
    write_rejected
        Write also what the gate rejects.
    tell
        Called after each portion with the number of files done and of all files.

    Raises
    ------
    InputError
        If an input does not exist, would be overwritten, or no structure can be predicted.
    """
    sources = find_files(inputs, out)
    target = _target(out)
    target.check(sources)
    stamp = (prerelaxer.state, finder.key, "rejected written" if write_rejected else "rejected as they came")
    known = target.known()
    entries: dict[str, list[ReportedStructure]] = {}
    for chunk in _chunks(sources, stamp, known):
        results = iter(predict_crystals(prerelaxer, finder, [c for job in chunk for c in job.crystals]))
        for job in chunk:
            predicted = [next(results) for _ in job.crystals]
            moved = [None if crystal.rejected and not write_rejected else crystal.frac for crystal in predicted]
            entries[job.name] = job.done or job.entries(predicted, moved, prerelaxer.key)
            target.take(job, moved, entries[job.name])
        target.save(entries)
        if tell is not None:
            tell(len(entries), len(sources))
    listed = [entry for several in entries.values() for entry in several]
    if all(entry.status == "failed" for entry in listed):
        first = listed[0]
        raise InputError(f"none of {len(listed)} structures could be predicted; {first.source}: {first.reason}")
    target.finish(entries)
    return listed


def find_files(inputs: Sequence[Path], out: Path) -> list[tuple[Path, str]]:
    """Return each file with the name it goes by: unique, and relative to the folder it was found in.

    A link goes by its own name, whatever else links to the same file; the same path given twice is read once. What
    lies in `out`, should that be inside an input folder, is output.

    Raises
    ------
    InputError
        If a path does not exist, or no file is found.
    """
    found: list[tuple[Path, str]] = []
    for path in inputs:
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.is_file() and is_known(p) and not p.name.endswith(REPORT))
            mine = [
                p
                for p in inside
                if path.resolve() == out.resolve() or out.resolve() not in (p.resolve(), *p.resolve().parents)
            ]
            found += [(p, p.relative_to(path).as_posix()) for p in mine]
        elif path.is_file():
            found.append((path, path.name))
        else:
            raise InputError(f"{path}: no such file or folder")
    if not found:
        raise InputError(f"{', '.join(map(str, inputs))}: no structure files in there")
    found = list({_own_path(path): (path, name) for path, name in found}.values())
    if len({name for _, name in found}) < len(found):
        common = Path(os.path.commonpath([_own_path(path).parent for path, _ in found]))
        found = [(path, _own_path(path).relative_to(common).as_posix()) for path, _ in found]
    return found


def _own_path(path: Path) -> Path:
    """Return a path whose folders are the real ones; a link that it names itself stays a link."""
    return path.parent.resolve() / path.name


@dataclass(frozen=True, eq=False)
class _Job:
    """One file to predict: its crystals, or why it cannot be read, or what is known of it already."""

    source: Path
    name: str
    key: str
    file: CrystalFile | None = None
    problem: str = ""
    done: list[ReportedStructure] | None = None

    @property
    def crystals(self) -> tuple[Crystal, ...]:
        return self.file.crystals if self.file else ()

    def entries(self, predicted: Sequence[PredictedCrystal], moved: Moved, weights: str) -> list[ReportedStructure]:
        common: dict[str, Any] = {"source": str(self.source), "output": self.name, "weights": weights, "key": self.key}
        if self.file is None:
            return [ReportedStructure(**common, index=0, status="failed", reason=self.problem)]
        facts = [_facts(crystal, moved=new is not None) for crystal, new in zip(predicted, moved, strict=True)]
        return [ReportedStructure(**common, index=k, **stated) for k, stated in enumerate(facts)]


def _facts(crystal: PredictedCrystal, *, moved: bool) -> dict[str, Any]:
    return {
        "status": "failed" if crystal.frac is None else "predicted",
        "verdict": crystal.gate.verdict if crystal.gate else None,
        "moved": moved,
        "in_domain": crystal.gate.in_domain if crystal.gate else None,
        "reason": crystal.reason,
        "note": crystal.note,
        "uncertainty": crystal.uncertainty,
        "host": crystal.found.label if crystal.found else None,
        "inferred": crystal.found.inferred if crystal.found else "",
        "defects": crystal.defects,
        "largest_displacement": None if crystal.largest is None else round(crystal.largest, 6),
    }


def _chunks(
    sources: Sequence[tuple[Path, str]], stamp: tuple[object, ...], known: dict[str, list[ReportedStructure]]
) -> Iterator[list[_Job]]:
    """Read files, in portions of a few hundred structures."""
    chunk: list[_Job] = []
    for source, name in sources:
        chunk.append(_read(source, name, stamp, known.get(name, [])))
        if sum(len(j.crystals) for j in chunk) >= _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _read(source: Path, name: str, stamp: tuple[object, ...], before: list[ReportedStructure]) -> _Job:
    try:
        data = source.read_bytes()
        key = content_hash(hashlib.sha256(data).hexdigest(), *stamp)
        if before and all(entry.key == key and entry.status == "predicted" for entry in before):
            return _Job(source, name, key, done=before)
        return _Job(source, name, key, file=read_crystals(source, data))
    except (InputError, OSError) as error:
        return _Job(source, name, "", problem=str(error))


# ------------------------------------------------------------------ where it goes


def _target(out: Path) -> _Folder:
    return _OneFile(out) if out.suffix.lower() in _ONE_FILE else _Folder(out)


class _Folder:
    """A folder of files with the names and formats that came in, and the report."""

    def __init__(self, out: Path) -> None:
        self.out, self.report = out, out / REPORT
        self.earlier: dict[str, list[ReportedStructure]] = {}

    def check(self, sources: Sequence[tuple[Path, str]]) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out} is a file: name a folder, or an .extxyz file")
        if not self.out.parent.is_dir():
            raise InputError(f"{self.out} cannot be made: there is no folder {self.out.parent}")
        for source, name in sources:
            if (self.out / name).resolve() == source.resolve():
                raise InputError(f"{self.out} would overwrite the input {source}: name another folder")

    def known(self) -> dict[str, list[ReportedStructure]]:
        """Return what an earlier report says of files that are there."""
        for entry in _load(self.report):
            if (self.out / entry.output).is_file():
                self.earlier.setdefault(entry.output, []).append(entry)
        return self.earlier

    def take(self, job: _Job, moved: Moved, entries: Sequence[ReportedStructure]) -> None:
        if job.file is None or all(entry.status == "failed" for entry in entries):
            return
        path = self.out / job.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, job.file.text(moved, [e.properties() for e in entries]))

    def save(self, entries: dict[str, list[ReportedStructure]]) -> None:
        """Write the report; what it said of other files stays."""
        if any(entry.status == "predicted" for several in entries.values() for entry in several):
            write_whole(self.report, _dump({**self.earlier, **entries}))

    def finish(self, entries: dict[str, list[ReportedStructure]]) -> None:
        """Nothing is left to do."""


class _OneFile(_Folder):
    """One extended XYZ file; structures that failed stand in it as they came, so that the order is kept."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.report = out.with_suffix("." + REPORT)
        self.frames: list[Atoms] = []
        self.stored: dict[str, list[Atoms]] = {}

    def check(self, sources: Sequence[tuple[Path, str]]) -> None:
        if self.out.is_dir():
            raise InputError(f"{self.out} is a folder: name a file")
        if not self.out.parent.is_dir():
            raise InputError(f"{self.out} cannot be written: there is no folder {self.out.parent}")
        if any(self.out.resolve() == source.resolve() for source, _ in sources):
            raise InputError(f"{self.out} is an input: name another file")

    def known(self) -> dict[str, list[ReportedStructure]]:
        """Return what an earlier report says of the frames that are there."""
        import ase.io  # noqa: PLC0415 - half a second to import

        entries = [entry for entry in _load(self.report) if entry.key]  # those that could be read have a frame
        try:
            frames = ase.io.read(self.out, index=":", format="extxyz")
        except (OSError, ValueError, KeyError, IndexError):
            return {}
        if len(frames) != len(entries):
            return {}
        for entry, frame in zip(entries, frames, strict=True):
            self.earlier.setdefault(entry.output, []).append(entry)
            self.stored.setdefault(entry.output, []).append(frame)
        return self.earlier

    def take(self, job: _Job, moved: Moved, entries: Sequence[ReportedStructure]) -> None:
        if job.done:
            self.frames += self.stored[job.name]
        elif job.file is not None:
            self.frames += job.file.frames(moved, [e.properties() for e in entries])

    def save(self, entries: dict[str, list[ReportedStructure]]) -> None:
        """Wait for the end."""

    def finish(self, entries: dict[str, list[ReportedStructure]]) -> None:
        write_whole(self.out, extxyz_text(self.frames))
        write_whole(self.report, _dump(entries))


def _dump(entries: dict[str, list[ReportedStructure]]) -> str:
    listed = [entry.model_dump(mode="json") for several in entries.values() for entry in several]
    return json.dumps({"structures": listed}, indent=1) + "\n"


def _load(path: Path) -> list[ReportedStructure]:
    """Return a report's entries; a report that cannot be read has none."""
    try:
        return [ReportedStructure.model_validate(item) for item in json.loads(path.read_text())["structures"]]
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return []
