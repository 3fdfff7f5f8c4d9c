"""Reader of the 2DMD archive's layout: pairs of CIF files into one compact cached file per set.

The layout is that of the public archive (doi:10.5281/zenodo.14027373): one folder per set with
`CIF/<id>_unrelaxed.cif` and `<id>_relaxed.cif` (`CIF_POSCAR` at low density), split lists `train.csv`, `val.csv`,
`test.csv` with a column `atoms_id`, and the pristine unit cells beside the sets.
"""

from __future__ import annotations

import csv
import hashlib
import re
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pymatgen.core import Composition, Element, Structure

from definet_flows.atomic import replacing
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.hosts.cif import read_cif
from definet_flows.schemas import SUBSTITUTION, VACANCY, FloatArray, Host, Vector, content_hash
from definet_flows.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = 2  # of the cached file
_SAME_CELL = 0.02  # Å
_ON_SITE = 0.05  # Å; an unrelaxed atom farther from every site is malformed
_FARTHEST = 6.0  # Å; no atom relaxes farther
_SPLITS = ("train", "val", "test")

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SetLayout:
    """Where one set lies and what its bulk supercell is."""

    name: str  # folder below the archive's root, also the set's name
    cif_folder: str
    unit_cell: str  # path of the pristine unit cell
    supercell: tuple[int, int, int]
    c: float | None = None  # Å; the cell's height, Cartesian z kept


def _high(folder: str, unit: str, n: int) -> SetLayout:
    return SetLayout(
        f"high_density_defects/{folder}", "CIF", f"high_density_defects/{unit}.cif", supercell=(n, n, 1), c=20.0
    )


def _low(host: str) -> SetLayout:
    return SetLayout(
        f"low_density_defects/{host}", "CIF_POSCAR", f"low_density_defects/{host}.cif", supercell=(8, 8, 1)
    )


SETS: tuple[SetLayout, ...] = (
    _high("MoS2_500", "MoS2", 8),
    _high("WSe2_500", "WSe2", 8),
    _high("hBN_spin_500", "BN", 8),
    _high("GaSe_spin_500", "GaSe", 6),
    _high("InSe_spin_500", "InSe", 6),
    _high("BP_spin_500", "P", 6),
    _low("MoS2"),
    _low("WSe2"),
)
"""The sets of the archive."""


@dataclass(frozen=True)
class PairSet:
    """All usable pairs of one set; rows are pristine sites in the host's order, then inserted atoms.

    Attributes
    ----------
    ids, splits
        Entry names and the split of each (`train`, `val`, `test`), [n].
    numbers, markers
        Node's atomic number and marker, uint8 [n, n_rows].
    unrelaxed, relaxed
        Displacement from the row's site, Å, float32 [n, n_rows, 3]; zero where vacant. The
        unrelaxed displacement is rounding noise of the files.
    malformed
        What was left out, as (id, reason).
    charges
        Net charge of each entry, elementary charges, [n]; empty: all are neutral.
    inserted
        Fractional coordinates at which the inserted atoms of all entries start, [n_inserted, 3].
    """

    name: str
    host: Host
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    numbers: npt.NDArray[np.uint8]
    markers: npt.NDArray[np.uint8]
    unrelaxed: npt.NDArray[np.float32]
    relaxed: npt.NDArray[np.float32]
    malformed: tuple[tuple[str, str], ...]
    charges: tuple[int, ...] = ()
    inserted: tuple[Vector, ...] = ()

    def charges_of(self, entries: npt.NDArray[np.integer]) -> IntArray:
        """Return the net charges of some entries, elementary charges."""
        charges = np.array(self.charges or (0,) * len(self.ids), dtype=np.int64)
        chosen: IntArray = charges[entries]
        return chosen

    def kinds_of(self, entry: int) -> list[str]:
        """Return the kinds of an entry's defects, such as v_S, W_Mo or Li_i."""
        kinds = []
        for row in np.flatnonzero(self.markers[entry]).tolist():
            new = Element.from_Z(int(self.numbers[entry, row])).symbol
            if row >= self.host.n_sites:
                kinds.append(f"{new}_i")
                continue
            old = Element.from_Z(self.host.numbers[row]).symbol
            kinds.append(f"{'v' if self.markers[entry, row] == VACANCY else new}_{old}")
        return kinds

    def split(self, name: str) -> IntArray:
        """Return the indices of one split's entries."""
        return np.flatnonzero(np.array(self.splits) == name)

    @property
    def data_hash(self) -> str:
        """Identity of the content: host, ids, splits, nodes and positions, in their order."""
        arrays = (self.numbers, self.markers, self.unrelaxed.astype("<f4"), self.relaxed.astype("<f4"))
        contents = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
        beyond = (self.charges, self.inserted) if any(self.charges) or self.inserted else ()
        return content_hash("pairs", self.name, self.host.hash, self.ids, self.splits, contents, *beyond)


def read_archive(root: Path, names: tuple[str, ...] = (), workers: int = 2) -> list[PairSet]:
    """Read every set of the archive's layout found under `root`, from the cache where it is current.

    Parameters
    ----------
    root
        Folder that holds `high_density_defects` and `low_density_defects`.
    names
        Only these sets, such as ``("high_density_defects/MoS2_500",)``; all by default.
    workers
        Processes that read CIF files.

    Raises
    ------
    InputError
        If there is no set under `root` or a name is unknown.
    """
    unknown = set(names) - {layout.name for layout in SETS}
    if unknown:
        known = ", ".join(layout.name for layout in SETS)
        msg = f"unknown set {min(unknown)!r}: one of {known}"
        raise InputError(msg)
    layouts = [s for s in SETS if (root / s.name / s.cif_folder).is_dir() and (not names or s.name in names)]
    if not layouts:
        msg = f"no 2DMD set under {root}: it holds folders such as {SETS[0].name}/{SETS[0].cif_folder}"
        raise InputError(msg)
    return [read_set(root, layout, workers) for layout in layouts]


def read_set(root: Path, layout: SetLayout, workers: int = 2) -> PairSet:
    """Read one set, from its cached file if the files have not changed since."""
    entries, repeated = _entries(root / layout.name)
    folder = root / layout.name / layout.cif_folder
    cached = load_settings().cache_dir / "2dmd" / f"{_state(root, layout, entries)}.npz"
    host = pristine(root, layout)
    if not cached.exists():
        with ProcessPoolExecutor(workers) as pool:
            read = list(pool.map(partial(_read_entry, folder, host), [e for e, _ in entries], chunksize=64))
        _save(cached, entries, read, repeated, host.n_sites)
    return _load(cached, layout.name, host)


def pristine(root: Path, layout: SetLayout) -> Host:
    """Return the set's bulk supercell."""
    with warnings.catch_warnings():
        # Thirds are put in order on purpose; low density and InSe have less than 15 Å of vacuum, as they are.
        warnings.filterwarnings("ignore", message=".*fractional coordinates rounded", category=UserWarning)
        warnings.filterwarnings("ignore", message="2D host .* of vacuum", category=UserWarning)
        unit = Structure.from_str(_clean(root / layout.unit_cell), fmt="cif")
        if layout.c is not None:
            lattice = unit.lattice.matrix.copy()
            lattice[2] = (0, 0, layout.c)
            unit = Structure(lattice, unit.species, unit.cart_coords, coords_are_cartesian=True)
        unit.properties["source"] = layout.unit_cell
        return make_host(unit, layout.supercell)


def _clean(path: Path) -> str:
    """Return the unit cell with thirds written out: five decimals put atoms off their symmetry."""
    text = path.read_text()
    for short, exact in (("0.33336", "0.33333333"), ("0.66664", "0.66666667")):
        text = text.replace(f" {short} ", f" {exact} ")
    return text


def _entries(folder: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (id, split) of each entry once, and (id, reason) of those that a later list repeats."""
    splits: dict[str, str] = {}
    repeated: list[tuple[str, str]] = []
    for split in _SPLITS:
        path = folder / f"{split}.csv"
        for entry in _read_list(path) if path.exists() else ():
            if entry in splits:
                repeated.append((entry, f"listed in {split}.csv, but already in {splits[entry]}.csv"))
            else:
                splits[entry] = split
    return list(splits.items()), repeated


def _read_list(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if "atoms_id" not in (reader.fieldnames or ()):
            msg = f"{path} has no column atoms_id: it should list an entry in each row"
            raise InputError(msg)
        return [row["atoms_id"] for row in reader]


def _state(root: Path, layout: SetLayout, entries: list[tuple[str, str]]) -> str:
    """Hash what the cached file depends on, without opening thousands of files."""
    folder = root / layout.name / layout.cif_folder
    files = sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in folder.iterdir())
    unit = (root / layout.unit_cell).read_text()
    return content_hash(_FORMAT, layout.name, layout.supercell, layout.c, unit, entries, files)


@dataclass(frozen=True)
class _Entry:
    """One pair on the pristine sites, or the reason why it is malformed."""

    numbers: npt.NDArray[np.uint8] | None = None
    markers: npt.NDArray[np.uint8] | None = None
    unrelaxed: npt.NDArray[np.float32] | None = None
    relaxed: npt.NDArray[np.float32] | None = None
    problem: str = ""


class _MalformedError(Exception):
    """Why an entry is left out."""


def _read_entry(folder: Path, host: Host, entry: str) -> _Entry:
    try:
        return _match(host, entry, *(_read_cif(folder / f"{entry}_{end}.cif") for end in ("unrelaxed", "relaxed")))
    except _MalformedError as problem:
        return _Entry(problem=str(problem))


def _read_cif(path: Path) -> tuple[FloatArray, IntArray, FloatArray]:
    """Return lattice [3, 3], atomic numbers [n] and fractional coordinates [n, 3] of a P1 CIF file."""
    if not path.exists():
        msg = f"{path.name} is missing"
        raise _MalformedError(msg)
    try:
        crystal = read_cif(path.read_text())
    except (ValueError, RuntimeError) as error:
        msg = f"{path.name} is no CIF file of one crystal ({error})"
        raise _MalformedError(msg) from None
    if len(crystal.numbers) == 0:
        msg = f"{path.name} holds no atoms"
        raise _MalformedError(msg)
    return crystal.lattice, crystal.numbers, crystal.frac


def _match(
    host: Host,
    entry: str,
    unrelaxed: tuple[FloatArray, IntArray, FloatArray],
    relaxed: tuple[FloatArray, IntArray, FloatArray],
) -> _Entry:
    """Put a pair on the pristine sites by periodic distance."""
    lattice = np.array(host.lattice)
    expected = _spans(lattice)
    for cell, _, _ in (unrelaxed, relaxed):
        found = _spans(cell)
        if not np.allclose(found, expected, atol=_SAME_CELL):
            msg = f"cell with edges and face diagonals {found.round(2)} Å is not the host's {expected.round(2)}"
            raise _MalformedError(msg)
    if not np.array_equal(unrelaxed[1], relaxed[1]):
        raise _MalformedError("unrelaxed and relaxed list other atoms or another order")
    _check_formula(entry, unrelaxed[1])
    to_site = _periodic(unrelaxed[2][:, None] - np.array(host.frac_coords)[None]) @ lattice  # [atoms, sites, 3]
    distance = np.linalg.norm(to_site, axis=-1)
    sites = distance.argmin(1)
    nearest = distance[np.arange(len(sites)), sites]
    if not nearest.max() <= _ON_SITE:  # a coordinate may be NaN
        msg = f"atom {nearest.argmax()} is {nearest.max():.3f} Å from every pristine site"
        raise _MalformedError(msg)
    if len(np.unique(sites)) < len(sites):
        msg = f"two atoms on site {np.bincount(sites).argmax()}"
        raise _MalformedError(msg)
    moved = _periodic(relaxed[2] - unrelaxed[2]) @ lattice
    far = np.linalg.norm(moved, axis=1)
    if not far.max() <= _FARTHEST:
        msg = f"atom {far.argmax()} moves by {far.max():.2f} Å: the two files' orders differ"
        raise _MalformedError(msg)
    pristine_numbers = np.array(host.numbers)
    numbers, markers = pristine_numbers.copy(), np.full(host.n_sites, VACANCY)
    numbers[sites] = unrelaxed[1]
    markers[sites] = np.where(unrelaxed[1] == pristine_numbers[sites], 0, SUBSTITUTION)
    start, end = np.zeros((2, host.n_sites, 3))
    start[sites] = to_site[np.arange(len(sites)), sites]
    end[sites] = start[sites] + moved
    return _Entry(numbers.astype(np.uint8), markers.astype(np.uint8), start.astype(np.float32), end.astype(np.float32))


def _spans(cell: FloatArray) -> FloatArray:
    """Lengths of a, b, c, a + b, b + c and c + a, Å: the cell, however it is turned."""
    spans: FloatArray = np.linalg.norm(np.concatenate([cell, cell + np.roll(cell, -1, axis=0)]), axis=1)
    return spans


def _periodic(frac: FloatArray) -> FloatArray:
    """Fractional vectors to the nearest image (cells here are far wider than any distance in question)."""
    return frac - np.rint(frac)


def _check_formula(entry: str, numbers: IntArray) -> None:
    """High-density ids carry the composition, as in `MoS2_Mo56W4Se1S122_<uuid>`."""
    match = re.match(r"^[A-Za-z0-9]+_((?:[A-Z][a-z]?\d*)+)_", entry)
    if match is None:
        return
    stated = Composition(match[1])
    found = Composition({Element.from_Z(int(z)): int((numbers == z).sum()) for z in np.unique(numbers)})
    if stated != found:
        msg = f"composition {found.formula} is unlike its id's {stated.formula}"
        raise _MalformedError(msg)


def _save(
    path: Path, entries: list[tuple[str, str]], read: list[_Entry], repeated: list[tuple[str, str]], n_sites: int
) -> None:
    good = [(e, r) for e, r in zip(entries, read, strict=True) if not r.problem]
    bad = [(e[0], r.problem) for e, r in zip(entries, read, strict=True) if r.problem] + repeated
    arrays: dict[str, Any] = {
        field: np.stack([getattr(r, field) for _, r in good]) if good else np.zeros((0, n_sites, *tail), kind)
        for field, kind, tail in (
            ("numbers", np.uint8, ()),
            ("markers", np.uint8, ()),
            ("unrelaxed", np.float32, (3,)),
            ("relaxed", np.float32, (3,)),
        )
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        np.savez(
            file,
            ids=np.array([e for (e, _), _ in good], dtype=str),
            splits=np.array([s for (_, s), _ in good], dtype=str),
            malformed=np.array(bad, dtype=str).reshape(-1, 2),
            **arrays,
        )


def _load(path: Path, name: str, host: Host) -> PairSet:
    with np.load(path, allow_pickle=False) as stored:
        return PairSet(
            name=name,
            host=host,
            ids=tuple(stored["ids"].tolist()),
            splits=tuple(stored["splits"].tolist()),
            numbers=stored["numbers"],
            markers=stored["markers"],
            unrelaxed=stored["unrelaxed"],
            relaxed=stored["relaxed"],
            malformed=tuple((i, why) for i, why in stored["malformed"].tolist()),
        )
