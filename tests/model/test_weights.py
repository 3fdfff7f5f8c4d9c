"""The shipped weights hold what their card says, on the validation splits of the published data."""

from __future__ import annotations

import csv
import shutil
import tarfile
from pathlib import Path

import pytest
from archive_data import archive, write_lists

from definet_flows.model.inference.checkpoint import DEFAULT_MODEL, load_checkpoint, shipped_models
from definet_flows.model.training.evaluate import Evaluation, evaluate

MOST = 25  # MB in the package
SETS = {
    "high_density_defects/MoS2_500": ("CIF", 50),
    "high_density_defects/WSe2_500": ("CIF", 50),
    "low_density_defects/MoS2": ("CIF_POSCAR", 60),
    "low_density_defects/WSe2": ("CIF_POSCAR", 60),
}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """The model on (some of) the validation entries, which are copied to a folder of their own."""
    folder, source = tmp_path_factory.mktemp("validation"), archive()
    packed = None if (source / "low_density_defects").is_dir() else next(source.glob("*.tar.xz"))
    if packed is not None:
        whole = tmp_path_factory.mktemp("lists")
        with tarfile.open(packed) as tar:
            tar.extractall(whole, filter=_member)  # noqa: S202 - the filter is tarfile's own data_filter and more
        source = whole
    for name, (cif, most) in SETS.items():
        write_set(source, folder, name, cif, _ids(source / name, most))
    return evaluate(folder, "val", load_checkpoint(DEFAULT_MODEL))


def _member(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """Take unit cells and the sets in question."""
    inside = any(member.name.removeprefix("./").startswith(name) for name in SETS)
    pristine = len(Path(member.name).parts) == 2 and member.name.endswith(".cif")
    return tarfile.data_filter(member, path) if inside or pristine else None


def _ids(folder: Path, most: int) -> list[str]:
    with (folder / "val.csv").open(newline="") as file:
        return [row["atoms_id"] for row in csv.DictReader(file)][:most]


def write_set(source: Path, target: Path, name: str, cif: str, ids: list[str]) -> None:
    (target / name / cif).mkdir(parents=True)
    write_lists(target / name, val=ids)
    for entry in ids:
        for end in ("unrelaxed", "relaxed"):
            shutil.copy(source / name / cif / f"{entry}_{end}.cif", target / name / cif)
    for unit in (source / name).parent.glob("*.cif"):
        shutil.copy(unit, target / Path(name).parent)


@pytest.mark.parametrize("host", ["MoS2", "WSe2"])
def test_high_density_is_well_below_no_motion(evaluation: Evaluation, host: str) -> None:
    result = evaluation.sets[f"high_density_defects/{host}_500"]
    assert result.dummy is not None
    assert result.mae is not None
    assert result.mae <= 0.75 * result.dummy


@pytest.mark.parametrize("host", ["MoS2", "WSe2"])
def test_low_density_is_better_than_no_motion(evaluation: Evaluation, host: str) -> None:
    result = evaluation.sets[f"low_density_defects/{host}"]
    assert result.dummy is not None
    assert result.mae is not None
    assert result.mae < 0.5 * result.dummy


def test_high_density_is_what_the_card_says(evaluation: Evaluation) -> None:
    card = load_checkpoint(DEFAULT_MODEL).card
    for host in ("MoS2", "WSe2"):
        name = f"high_density_defects/{host}_500"
        assert evaluation.sets[name].mae == pytest.approx(card.metrics[name]["mae"], rel=1e-3)


def test_shipped_weights_are_small_and_have_a_card() -> None:
    assert DEFAULT_MODEL in shipped_models()
    for name in shipped_models():
        checkpoint = load_checkpoint(name)
        assert checkpoint.path.stat().st_size < MOST * 1e6
        assert checkpoint.card.domain_known
        card = checkpoint.path.with_suffix(".md").read_text()
        assert checkpoint.sha256[:12] in card
        assert "10.5281/zenodo.14027373" in card
