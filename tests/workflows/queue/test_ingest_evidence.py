"""What is taken for output, what damaged files still tell, and where a charge comes from."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import subprocess

import pytest
from typer.testing import CliRunner
from vasp_files import HOST, write_run
from vasp_helpers import WARNINGS

from definet_flows.cli import app
from definet_flows.errors import InputError
from definet_flows.hosts import to_structure
from definet_flows.ledger import read_relaxation, read_vasp_run
from definet_flows.ledger.vasp.charge import charge_from_path, charge_in_name
from definet_flows.workflows.recovery.ingest import ingest, read_record

pytestmark = WARNINGS
SHIFTS = [0.0, 0.05, 0.08, 0.1]


@pytest.fixture
def run(tmp_path):
    """Return the folder of a finished run."""
    return write_run(tmp_path / "tree" / "run", SHIFTS)


def only(folder):
    (record,) = ingest(HOST, folder).records.values()
    return record


def edit(path, *pairs):
    """Replace the last of each first text in a file by the second."""
    text = path.read_text(encoding="latin-1")
    for old, new in pairs:
        head, found, tail = text.rpartition(old)
        assert found, old
        text = head + new + tail
    path.write_text(text, encoding="latin-1")


# ------------------------------------------------------------------ which files


@pytest.mark.parametrize(
    "junk", [".OUTCAR.swp", "._vasprun.xml", "vasprun.xml~", "#OUTCAR#", "vasprun.xml.bak", "OUTCAR.old"]
)
def test_files_that_are_no_output_are_not_taken(run, junk):
    (run / junk).write_bytes(b"\x00\x05\x16\x07not of VASP")
    (run / "1_OUTCARs").mkdir()
    (run.parent / "0_vasprun.xml").mkdir()
    found = ingest(HOST, run.parent)
    (record,) = found.records.values()
    assert (record.status, record.ledger.ionic_steps) == ("done", 4)
    assert found.left_out == {}
    assert read_vasp_run(run).ionic_steps == 4


def test_a_lone_backup_is_named(run, tmp_path):
    other = tmp_path / "tree" / "other"
    other.mkdir()
    shutil.copy(run / "vasprun.xml", other / "vasprun.xml.bak")
    shutil.copy(run / "vasprun.xml", run / "vasprun.xml.static")
    found = ingest(HOST, run.parent)
    assert len(found.records) == 1
    assert set(found.left_out) == {str(other / "vasprun.xml.bak"), str(run / "vasprun.xml.static")}
    with pytest.raises(InputError, match=r"no vasprun.xml and no OUTCAR.*vasprun.xml.bak"):
        ingest(HOST, other)


def test_links_are_followed_once(run, tmp_path):
    tree = tmp_path / "links"
    tree.mkdir()
    (tree / "one").symlink_to(run)
    (tree / "two").symlink_to(run)
    (tree / "circle").symlink_to(tree)
    (tree / "OUTCAR").symlink_to(tmp_path / "nowhere")
    found = ingest(HOST, tree)
    assert len(found.records) == 1
    assert sorted(found.left_out) == [str(tree / name) for name in ("OUTCAR", "circle", "two")]
    assert "not there" in found.left_out[str(tree / "OUTCAR")]


# ------------------------------------------------------------------ compressed and cut


def _zstd(data):
    program = shutil.which("zstd")
    if program is None:
        pytest.skip("no program zstd")
    return subprocess.run([program, "-qc"], input=data, capture_output=True, check=True).stdout


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zstd}
PACKED[".lzma"] = lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE)


def pack(folder, end, share=1.0):
    for path in list(folder.iterdir()):
        data = PACKED[end](path.read_bytes())
        path.with_name(path.name + end).write_bytes(data[: int(share * len(data))])
        path.unlink()


@pytest.mark.parametrize("end", PACKED)
def test_compressed_output_is_read(run, end):
    plain = read_relaxation(run).ledger
    pack(run, end)
    assert read_relaxation(run).ledger == plain
    record = only(run.parent)
    assert (record.status, record.ledger.ionic_steps, record.ledger.energy) == ("done", 4, -100.0)


def test_a_zst_file_without_its_program_is_named(run, monkeypatch):
    pack(run, ".zst")
    monkeypatch.setenv("PATH", "")
    found = ingest(HOST, run.parent)
    assert "zstd" in next(iter(found.left_out.values()))


@pytest.mark.parametrize("end", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_a_compressed_file_cut_off_gives_its_steps(run, name, end):
    for path in list(run.iterdir()):
        if path.name != name:
            path.unlink()
    # noise that does not compress, so that a share of the file is a share of its content
    text = (run / name).read_text()
    mark = "</calculation>" if name == "vasprun.xml" else "LOOP+"
    noisy = re.sub(re.escape(mark), lambda _: f"{mark}\n<!-- {os.urandom(80000).hex()} -->", text)
    (run / name).write_text(noisy)
    pack(run, end, 0.9)
    read = read_vasp_run(run)
    assert 2 <= read.ionic_steps <= 4
    assert read.finished is False


def test_a_gz_with_a_wrong_checksum_is_not_whole(run):
    data = bytearray(gzip.compress((run / "vasprun.xml").read_bytes()))
    data[-8] ^= 0xFF
    (run / "vasprun.xml.gz").write_bytes(bytes(data))
    for name in ("vasprun.xml", "OUTCAR"):
        (run / name).unlink()
    record = only(run.parent)
    assert (record.status, record.ledger.ionic_steps) == ("failed", 4)
    assert any("damaged" in note for note in record.ledger.notes)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<calculation>", "\x00<calculation>"),
        ("<varray", "\x02\x1f<varray"),
        ("</generator>", '</generator>\n <i type="string" name="SYSTEM">MoS2 & <defect>\x0b</i>'),
    ],
)
def test_characters_that_xml_forbids_lose_no_steps(run, old, new):
    plain = read_vasp_run(run / "vasprun.xml")
    edit(run / "vasprun.xml", (old, new))
    read = read_vasp_run(run / "vasprun.xml")
    assert (read.ionic_steps, read.finished, read.energy) == (4, True, plain.energy)
    assert read.max_force == plain.max_force


def test_a_control_character_in_a_number_is_no_number(run):
    edit(run / "vasprun.xml", ("0.01000000 ", "0.01\x00000000 "))
    (run / "OUTCAR").unlink()
    record = only(run.parent)
    assert (record.status, record.ledger.ionic_steps, record.ledger.converged) == ("failed", 4, False)


# ------------------------------------------------------------------ ends that are none


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf", "****************"])
@pytest.mark.parametrize("kept", ["vasprun.xml", "OUTCAR", "both"])
def test_a_last_energy_that_is_no_number(run, value, kept):
    xml, text = (run / name for name in ("vasprun.xml", "OUTCAR"))
    number = re.compile(r"(?<=>) +-100\.00000000(?= <)")
    head, mark, tail = xml.read_text().rpartition("<scstep>")
    xml.write_text(head + mark + number.sub(value, tail))
    edit(text, ("energy(sigma->0) =      -100.00000000", f"energy(sigma->0) = {value}"))
    for path in (xml, text):
        if kept not in (path.name, "both"):
            path.unlink()
    outcome = read_relaxation(run)
    assert outcome.ledger.ionic_steps == 4
    assert outcome.ledger.energy is None
    assert not outcome.ledger.converged
    assert "no numbers" in outcome.error
    if kept != "OUTCAR":  # the stand-in's OUTCAR tells no cell
        record = only(run.parent)
        assert (record.status, record.ledger.energy) == ("failed", None)
        assert "no numbers" in record.error


def test_last_forces_that_are_no_numbers(run):
    edit(run / "vasprun.xml", ("      0.01000000 ", " *************** "))
    (run / "OUTCAR").unlink()
    record = only(run.parent)
    assert (record.status, record.ledger.max_force, record.ledger.converged) == ("failed", None, False)


@pytest.mark.parametrize("digits", [1, 2, 4, 10])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_contcar_cut_inside_its_last_number_is_not_trusted(run, digits, end):
    text = (run / "CONTCAR").read_text()
    lines = text.rstrip().split("\n")
    cut = "\n".join(lines)[: -16 + digits]
    assert re.search(rf"\.\d{{{digits}}}$", cut)
    (run / "CONTCAR").unlink()
    (run / f"CONTCAR{end}").write_bytes(gzip.compress(cut.encode()) if end else cut.encode())
    end = read_relaxation(run).structure
    true = read_vasp_run(run / "vasprun.xml").final
    assert abs(end.frac_coords - true.frac_coords).max() < 1e-7


def test_a_contcar_of_another_end_is_not_trusted(run, tmp_path):
    other = write_run(tmp_path / "other", [0.0, 0.2])
    shutil.copy(other / "CONTCAR", run / "CONTCAR")
    outcome = read_relaxation(run)
    true = read_vasp_run(run / "vasprun.xml").final
    assert abs(outcome.structure.frac_coords - true.frac_coords).max() < 1e-7
    assert any("CONTCAR" in note for note in outcome.ledger.notes)


# ------------------------------------------------------------------ charge


def test_half_an_electron_is_refused(tmp_path):
    write_run(tmp_path / "run", SHIFTS, charge=0.5)
    found = ingest(HOST, tmp_path)
    assert found.records == {}
    assert "charge of +0.5" in next(iter(found.left_out.values()))


def test_electrons_count_more_than_names(tmp_path):
    write_run(tmp_path / "v_Cu_-1", SHIFTS, charge=1)
    record = only(tmp_path)
    assert record.configuration.charge == 1
    assert "the name says charge -1, NELECT +1: NELECT counts" in record.ledger.notes


def no_valences(folder):
    """Take the valences out of the output, as of a run whose vasprun.xml does not tell them."""
    text = (folder / "vasprun.xml").read_text()
    (folder / "vasprun.xml").write_text(re.sub(r"(<c> 1\.0</c>)<c>1\.0</c>", r"\1<c>?</c>", text))
    (folder / "OUTCAR").unlink()
    return folder


def test_where_no_electrons_tell_the_name_does(tmp_path):
    no_valences(write_run(tmp_path / "v_Cu_-2_vasp_gam", SHIFTS))
    record = only(tmp_path)
    assert record.configuration.charge == -2
    assert "the charge is not in the output: by its name" in record.ledger.notes


def test_neutrality_that_is_assumed_is_said(tmp_path):
    record = read_record(HOST, no_valences(write_run(tmp_path / "run", SHIFTS)))
    assert record.configuration.charge == 0
    assert "the charge is not in the output: taken to be neutral" in record.ledger.notes


def test_nelect_of_the_incar_with_the_potcar_beside(tmp_path):
    folder = no_valences(write_run(tmp_path / "run", SHIFTS, charge=-1))
    assert "sets NELECT 32" in next(iter(ingest(HOST, tmp_path).left_out.values()))
    (folder / "POTCAR").write_text("   POMASS =   63.546; ZVAL   =    1.000    mass and valenz\n")
    assert only(tmp_path).configuration.charge == -1


@pytest.mark.parametrize(
    ("name", "charge"),
    [
        *[("q=-1", -1), ("q=+2", 2), ("q0", 0), ("charge_-3", -3), ("v_S_q-1", -1), ("v_S_q=-2", -2), ("Mg_O_q1", 1)],
        *[("v_Mo_-10", -10), ("v_Cd_-2_vasp_gam", -2), ("v_Cd_1_vasp_gam", 1), ("v_O_2+", 2), ("v_O_1-", -1)],
        *[("Te_Cd_C2v_Te2.83_+2", 2), ("Li_i_Td_+1", 1), ("vac_1_Cd_0", 0), ("Va_O1_2", 2), ("Int_Cd_1_-1", -1)],
        *[("sub_1_Al_on_Zn_-1", -1), ("v_S+W_Mo_-1", -1), ("v_Cd_-1_Unperturbed", -1)],
        *[(name, None) for name in ("S_run_3", "v_S", "run_1", "S_3", "relax_2", "vasp_gam", "GaN_v_N", "seq_3")],
        *[(name, None) for name in ("Bond_Distortion_-40.0%", "v_Cd_Bond_Distortion_-40", "v_S_2024", "C3v_0")],
    ],
)
def test_charges_in_names(name, charge):
    assert charge_in_name(name) == charge


def test_the_innermost_name_counts(tmp_path):
    inner = tmp_path / "v_S_q-1" / "vasp_std"
    assert charge_from_path(inner, tmp_path) == -1
    assert charge_from_path(inner / "charge_2" / "x.OUTCAR.gz", tmp_path) == 2
    assert charge_from_path(inner, inner) is None  # folders above the tree do not count


def test_the_shell_says_what_a_reader_must_know(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    to_structure(HOST).to(filename=str(tmp_path / "POSCAR.vasp"), fmt="poscar")
    write_run(tmp_path / "runs" / "v_Cu_-1", [0.1, 0.12], charge=1)
    write_run(tmp_path / "runs" / "static", [0.1], NSW=0)
    result = CliRunner().invoke(app, ["ingest", "runs", "--host", "POSCAR.vasp", "--store", "records.jsonl"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    for words in ("v_Cu charge +1: done, 2 ionic steps", "NELECT counts", "not from the unrelaxed start", "NSW 0"):
        assert words in said
