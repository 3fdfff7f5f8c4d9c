import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from archive_data import data, write_cif, write_lists, write_pair, write_unit_cell  # noqa: F401 - `data` is a fixture

from definet_flows.defects import nodes, place
from definet_flows.errors import InputError
from definet_flows.model.data import archive
from definet_flows.model.data.archive import SETS, SetLayout, pristine, read_archive, read_set

LAYOUT = SetLayout("high_density_defects/MoS2_500", "CIF", "high_density_defects/MoS2.cif", (4, 4, 1), c=20.0)
DEFECTS = {"a": ["v_S@16", "W_Mo@3"], "b": ["v_Mo@0", "Se_S@20", "Se_S@47"], "c": ["v_S@16"], "d": ["W_Mo@5"]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "2dmd"


@pytest.fixture
def threads(monkeypatch) -> None:
    """Read in this process: twenty files need no others."""
    monkeypatch.setattr(archive, "ProcessPoolExecutor", ThreadPoolExecutor)


class Small:
    """A small archive: four entries on MoS2 4 x 4, `a` and `b` to train on."""

    def __init__(self, root: Path) -> None:
        self.root, self.set = root, root / LAYOUT.name
        self.folder = self.set / LAYOUT.cif_folder
        write_unit_cell(root)
        self.host = pristine(root, LAYOUT)
        rng = np.random.default_rng(1)
        self.configurations = {tag: place(self.host, defects) for tag, defects in DEFECTS.items()}
        self.moved = {tag: rng.normal(0, 0.1, (self.host.n_sites, 3)) for tag in DEFECTS}
        self.moved["a"][10] = [3.5, 0, 0]  # an atom that hops into the next cell
        self.ids = {
            tag: write_pair(self.folder, self.host, c, self.moved[tag], tag=tag, seed=k)
            for k, (tag, c) in enumerate(self.configurations.items())
        }
        write_lists(self.set, train=[self.ids["a"], self.ids["b"]], val=[self.ids["c"]], test=[self.ids["d"]])

    def read(self) -> archive.PairSet:
        return read_set(self.root, LAYOUT)

    def file(self, tag: str, end: str) -> Path:
        return self.folder / f"{self.ids[tag]}_{end}.cif"

    def rewrite(self, tag: str, end: str, change) -> None:
        """Change (lattice, numbers, fractional coordinates) of a file."""
        lattice, numbers, frac = archive._read_cif(self.file(tag, end))
        write_cif(self.file(tag, end), *change(lattice, numbers, frac))


@pytest.fixture
def small(tmp_path, threads) -> Small:  # noqa: ARG001
    return Small(tmp_path)


def test_pairs_lie_on_the_pristine_sites_whatever_the_files_order_and_images(small):
    pairs = small.read()
    assert pairs.malformed == ()
    assert pairs.ids == tuple(small.ids.values())
    assert pairs.splits == ("train", "train", "val", "test")
    assert pairs.split("val").tolist() == [2]
    for k, (tag, configuration) in enumerate(small.configurations.items()):
        numbers, markers = nodes(small.host, configuration)
        assert np.array_equal(pairs.numbers[k], numbers)
        assert np.array_equal(pairs.markers[k], markers)
        atoms = markers != 2
        assert np.abs(pairs.relaxed[k] - small.moved[tag])[atoms].max() < 1e-5
        assert np.all(pairs.relaxed[k][~atoms] == 0)
        assert np.abs(pairs.unrelaxed[k]).max() < 1e-5


def test_the_height_is_set_and_cartesian_z_kept(small):
    assert np.allclose(np.array(small.host.lattice)[2], [0, 0, 20])
    assert small.host.n_sites == 48
    assert small.host.provenance["source"] == LAYOUT.unit_cell


def shifted(atom: int, by: list[float]):
    def change(lattice, numbers, frac):
        frac[atom] += np.array(by) @ np.linalg.inv(lattice)
        return lattice, numbers, frac

    return change


def doubled(lattice, numbers, frac):
    same = np.flatnonzero(numbers == 16)
    frac[same[0]] = frac[same[1]] + 1e-4
    return lattice, numbers, frac


def erased(lattice, numbers, frac):
    frac[4] = np.nan
    return lattice, numbers, frac


def tilted(lattice, numbers, frac):
    lattice[1, 0] = -lattice[1, 0]
    return lattice, numbers, frac


def swapped(lattice, numbers, frac):
    """Exchange the two atoms of an element that are farthest apart."""
    same = np.flatnonzero(numbers == 42)
    apart = frac[same][:, None] - frac[same][None]
    distance = np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=-1)
    i, j = same[list(np.unravel_index(distance.argmax(), distance.shape))]
    frac[[i, j]] = frac[[j, i]]
    return lattice, numbers, frac


MALFORMED = {
    "relaxed file missing": (lambda s: s.file("a", "relaxed").unlink(), r"_a_relaxed\.cif is missing"),
    "unrelaxed file missing": (lambda s: s.file("a", "unrelaxed").unlink(), r"_a_unrelaxed\.cif is missing"),
    "no CIF": (lambda s: s.file("a", "relaxed").write_text("not a crystal"), "is no CIF file of one crystal"),
    "no atoms": (lambda s: s.file("a", "relaxed").write_text("data_empty\n_cell_length_a 1\n"), "holds no structure"),
    "atom far from every site": (
        lambda s: s.rewrite("a", "unrelaxed", shifted(7, [0.3, 0, 0])),
        r"atom 7 is 0\.300 Å from every pristine site",
    ),
    "two atoms on a site": (lambda s: s.rewrite("a", "unrelaxed", doubled), r"two atoms on site \d+"),
    "other cell": (
        lambda s: s.rewrite("a", "relaxed", lambda lattice, z, frac: (lattice * 1.01, z, frac)),
        "is not the host's",
    ),
    "other angle": (lambda s: s.rewrite("a", "unrelaxed", tilted), "is not the host's"),
    "other elements": (
        lambda s: s.rewrite("a", "relaxed", lambda lattice, z, frac: (lattice, z[::-1], frac)),
        "other atoms or another order",
    ),
    "other order": (lambda s: s.rewrite("a", "relaxed", swapped), "moves by .* the two files' orders differ"),
    "no coordinate": (lambda s: s.rewrite("a", "unrelaxed", erased), "is no CIF|atom 4 is nan Å"),
    "no relaxed coordinate": (lambda s: s.rewrite("a", "relaxed", erased), "is no CIF|atom 4 moves by nan Å"),
}


@pytest.mark.parametrize(("spoil", "reason"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_entry_is_listed_and_left_out(small, spoil, reason):
    spoil(small)
    pairs = small.read()
    ((entry, why),) = pairs.malformed
    assert entry == small.ids["a"]
    assert re.search(reason, why)
    assert pairs.ids == tuple(small.ids[tag] for tag in "bcd")
    assert len(pairs.numbers) == len(pairs.relaxed) == 3
    assert np.isfinite(pairs.relaxed).all()


def test_a_composition_unlike_its_id_is_malformed(small):
    wrong = small.ids["a"].replace("W1", "W2")
    for end in ("unrelaxed", "relaxed"):
        shutil.move(small.file("a", end), small.folder / f"{wrong}_{end}.cif")
    write_lists(small.set, train=[wrong, small.ids["b"]])
    assert small.read().malformed == ((wrong, "composition Mo15 W1 S31 is unlike its id's Mo15 W2 S31"),)


def test_an_entry_in_two_splits_stays_in_the_first(small):
    write_lists(small.set, val=[small.ids["c"], small.ids["b"]])
    pairs = small.read()
    assert pairs.splits == ("train", "train", "val", "test")
    assert pairs.malformed == ((small.ids["b"], "listed in val.csv, but already in train.csv"),)


def test_the_cache_is_used_until_a_file_or_list_changes(small, cache, monkeypatch):
    first = small.read()
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(archive, "_read_entry", lambda *_: pytest.fail("read again"))
    again = small.read()
    assert again.ids == first.ids
    assert again.data_hash == first.data_hash
    assert np.array_equal(again.relaxed, first.relaxed)
    monkeypatch.undo()
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(cache.parent))
    monkeypatch.setattr(archive, "ProcessPoolExecutor", ThreadPoolExecutor)
    small.rewrite("c", "relaxed", shifted(0, [0, 0, 0.2]))
    changed = small.read()
    assert changed.data_hash != first.data_hash
    assert np.isclose(np.abs(changed.relaxed[2] - first.relaxed[2]).max(), 0.2, atol=1e-5)
    write_lists(small.set, val=[small.ids["c"]], test=[])
    assert len(small.read().ids) == 3
    assert len(list(cache.glob("*.npz"))) == 3
    assert not list(cache.glob("*.part"))


def test_wrong_folders_names_and_lists_are_refused(small, tmp_path):
    with pytest.raises(InputError, match=r"no 2DMD set under .* folders such as high_density_defects"):
        read_archive(tmp_path / "nowhere")
    with pytest.raises(InputError, match="unknown set 'MoS2': one of high_density_defects/MoS2_500"):
        read_archive(small.root, names=("MoS2",))
    (small.set / "val.csv").write_text("id\nx\n")
    with pytest.raises(InputError, match=r"val\.csv has no column atoms_id"):
        small.read()


# ------------------------------------------------------------------ the published data


def test_published_pairs_are_read_without_a_warning(data, tmp_path):  # noqa: F811
    root, expected = tmp_path / "sample", {}
    for layout in SETS:
        folder = data / layout.name / layout.cif_folder
        chosen = sorted(folder.glob("*_unrelaxed.cif"))
        chosen = chosen[:: max(1, len(chosen) // 6)][:6]
        (root / layout.name / layout.cif_folder).mkdir(parents=True)
        shutil.copy(data / layout.unit_cell, root / layout.unit_cell)
        entries = [path.name.removesuffix("_unrelaxed.cif") for path in chosen]
        for entry in entries:
            for end in ("unrelaxed", "relaxed"):
                shutil.copy(folder / f"{entry}_{end}.cif", root / layout.name / layout.cif_folder)
        write_lists(root / layout.name, val=entries)
        expected[layout.name] = entries
    sets = {pairs.name: pairs for pairs in read_archive(root)}
    assert list(sets) == list(expected)
    for name, pairs in sets.items():
        assert pairs.malformed == ()
        assert list(pairs.ids) == expected[name]
        assert np.abs(pairs.unrelaxed).max() < 1e-3
        atoms = pairs.markers != 2
        assert 0.001 < np.abs(pairs.relaxed)[atoms].mean() < 0.3
        high = name.startswith("high")
        assert set((pairs.markers > 0).sum(1)) <= (set(range(2, 28)) if high else {1, 2, 3})
