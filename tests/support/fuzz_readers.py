"""Every reader with whole inputs, and what damage does to files: bits, lines, numbers, encodings, depth."""

from __future__ import annotations

import io
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from file_helpers import HOST, structure, write
from vasp_helpers import POTCAR, STANDIN

MEMORY = 2 * 10**9  # bytes that a reader may take beyond what the libraries hold
SECONDS = 30
_NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][+-]?\d+)?")
_ODD = (b"nan", b"inf", b"-inf", b"1e400", b"-1e300", b"1" + b"0" * 30, b"9223372036854775808", b"-1", b"0", b"1e-320")
_TEXTS = (b"\xff\xfe", b"\x00" * 8, b"\xe9", b"*" * 5000, b"[" * 3000, b"{" * 3000, "Å".encode("utf-16"), b"\x1b[31m")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the data with one or two kinds of damage."""
    for _ in range(rng.choice((1, 1, 2))):
        data = rng.choice(_DAMAGE)(data, rng)
    return data


def _flipped(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 8, 64))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _without_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _twice(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"".join(lines)


def _number(data: bytes, rng: random.Random) -> bytes:
    found = list(_NUMBER.finditer(data[:200_000]))
    if not found:
        return data
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(_ODD) + data[one.end() :]


def _inserted(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(_TEXTS) + data[place:]


def _other_encoding(data: bytes, rng: random.Random) -> bytes:
    return data.decode("latin-1").encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))


_DAMAGE: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flipped, _cut, _without_line, _twice, _number, _number, _inserted, _other_encoding,
)  # fmt: skip


# ------------------------------------------------------------------ readers


@dataclass(frozen=True)
class Reader:
    """A kind of file: its name, an undamaged file, and what reads it."""

    kind: str
    name: str
    whole: bytes
    read: Callable[[Path], object]


def readers(folder: Path) -> list[Reader]:
    """Return every reader; whole inputs are made in a folder."""
    from definet_flows.model.inference.checkpoint import load_checkpoint  # noqa: PLC0415 - torch
    from definet_flows.model.inference.published import import_checkpoint  # noqa: PLC0415
    from definet_flows.model.training.recipes import read_recipe  # noqa: PLC0415
    from definet_flows.workflows.queue.routing import read_placement  # noqa: PLC0415

    files = {}
    for name in ("POSCAR", "one.cif", "one.extxyz", "one.json"):
        one = structure()
        path = write(folder / name, one.lattice.matrix, _numbers(one), one.frac_coords)
        files[name] = path.read_bytes()
    output, weights, store = _vasp(folder / "vasp"), _weights(folder), _store(folder)
    network = weights["config"]
    return [
        Reader("POSCAR", "POSCAR", files["POSCAR"], _crystals),
        Reader("CIF", "one.cif", files["one.cif"], _crystals),
        Reader("extxyz", "one.extxyz", files["one.extxyz"], _crystals),
        Reader("JSON", "one.json", files["one.json"], _crystals),
        Reader("host POSCAR", "POSCAR", files["POSCAR"], _host),
        Reader("host CIF", "one.cif", files["one.cif"], _host),
        Reader("host JSON", "one.json", files["one.json"], _host),
        Reader("vasprun", "vasprun.xml", output["vasprun.xml"], _ingest),
        Reader("OUTCAR", "OUTCAR", output["OUTCAR"], _ingest),
        Reader("frames", "frames.extxyz", _frames(folder), _ingest_frames),
        Reader("recipe", "recipe.yaml", RECIPE, lambda path: read_recipe(str(path))),
        Reader("placement", "placement.yaml", PLACEMENT, read_placement),
        Reader("settings", "settings.yaml", SETTINGS, _settings),
        Reader("weights", "one.safetensors", weights["safetensors"], lambda path: load_checkpoint(path).network),
        Reader(
            "published", "one.pt", weights["pt"],
            lambda path: import_checkpoint(path, path.with_name("out.safetensors"), network, "x"),
        ),
        Reader("configurations", "all.jsonl", _configurations(folder), _read_configurations),
        Reader("store", store.name, store.read_bytes(), _records),
    ]  # fmt: skip


RECIPE = b"""network: {hidden: 16, layers: 2, cutoff: 5.0}
epochs: 3
batch: 4
drawn: {low: 3}
learning_rate: 1.0e-3
schedule: plateau
"""
PLACEMENT = b"""predict: {category: gpu, queue: {nodes: 1}}
relax:
  category: cpu
  resources: {ntasks: 16, time: 00:30:00}
light: {category: light}
"""
SETTINGS = b"""record_store: mine
record_stores:
  mine: {"@module": maggma.stores.mongolike, "@class": MemoryStore}
data_dir: /tmp/definet
"""


def _numbers(one):
    import numpy as np  # noqa: PLC0415

    return np.array(one.atomic_numbers)


def _vasp(folder: Path) -> dict[str, bytes]:
    """Return the output of a short run of the stand-in."""
    from pymatgen.core import Lattice, Structure  # noqa: PLC0415

    folder.mkdir()
    copper = Structure(Lattice.cubic(3.6), ["Cu"] * 4, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    copper.remove_sites([3])
    copper.to(str(folder / "POSCAR"), fmt="poscar")
    (folder / "INCAR").write_text("IBRION = 2\nNSW = 4\nEDIFFG = -0.05\nISIF = 2\nENCUT = 300\nISPIN = 1\n")
    (folder / "KPOINTS").write_text("Gamma\n0\nGamma\n1 1 1\n")
    (folder / "POTCAR").write_text(POTCAR.format(symbol="Cu", element="Cu", zval=1.0))
    environment = {**os.environ, "VASP_LOG": str(folder / "log"), "VASP_FAILURES": str(folder / "failures")}
    (folder / "failures").write_text("{}")
    subprocess.run(
        [sys.executable, str(STANDIN / "run.py")], cwd=folder, check=True, capture_output=True, env=environment
    )
    return {name: (folder / name).read_bytes() for name in ("vasprun.xml", "OUTCAR")}


def _weights(folder: Path) -> dict:
    import torch  # noqa: PLC0415
    from file_helpers import small_checkpoint  # noqa: PLC0415

    checkpoint = small_checkpoint(folder / "whole.safetensors", "MoS2")
    torch.save(checkpoint.network.state_dict(), folder / "whole.pt")
    return {
        "config": checkpoint.card.config,
        "safetensors": checkpoint.path.read_bytes(),
        "pt": (folder / "whole.pt").read_bytes(),
    }


def _store(folder: Path) -> Path:
    from report_store import filled_store  # noqa: PLC0415

    return Path(filled_store(folder / "whole.sqlite"))


def _configurations(folder: Path) -> bytes:
    from definet_flows.defects import Choices, enumerate_configurations  # noqa: PLC0415
    from definet_flows.defects.files import write_configurations  # noqa: PLC0415

    path = folder / "all.jsonl"
    write_configurations(path, HOST, enumerate_configurations(HOST, Choices(defects=("v_S", "W_Mo"))), "cif")
    return path.read_bytes()


def _crystals(path: Path) -> None:
    from definet_flows.structures.crystals import read_crystals  # noqa: PLC0415

    file = read_crystals(path, path.read_bytes())
    for crystal in file.crystals:
        crystal.structure()
    file.text([crystal.frac for crystal in file.crystals], [{} for _ in file.crystals])


def _host(path: Path) -> None:
    from definet_flows.hosts import make_host  # noqa: PLC0415

    make_host(path, (1, 1, 1))


def _frames(folder: Path) -> bytes:
    """Return two relaxations of others."""
    import ase.io  # noqa: PLC0415

    path = folder / "frames.extxyz"
    frames = ase.io.read(folder / "one.extxyz", ":") * 2
    for frame in frames:
        frame.arrays["relaxed_positions"] = frame.positions + 0.05
        frame.info.update(functional="PBE", ionic_steps=7, relaxed_energy=-3.5)
    ase.io.write(path, frames, format="extxyz")
    return path.read_bytes()


def _ingest_frames(path: Path) -> None:
    from definet_flows.workflows.recovery.ingest_pairs import ingest_frames  # noqa: PLC0415

    ingest_frames(path, "MoS2")


def _ingest(path: Path) -> None:
    from pymatgen.core import Lattice, Structure  # noqa: PLC0415

    from definet_flows.hosts import make_host  # noqa: PLC0415
    from definet_flows.workflows.recovery.ingest import ingest  # noqa: PLC0415

    copper = Structure(Lattice.cubic(3.6), ["Cu"] * 4, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    ingest(make_host(copper, (1, 1, 1)), path.parent)


def _settings(path: Path) -> None:
    from definet_flows.settings import load_settings  # noqa: PLC0415

    os.environ["DEFINET_FLOWS_CONFIG"] = str(path)
    load_settings()


def _read_configurations(path: Path) -> None:
    from definet_flows.defects.files import read_configurations  # noqa: PLC0415

    list(read_configurations(path)[1])


def _records(path: Path) -> None:
    """Show, sum up and export; each exit code is 0 or 2."""
    from typer.testing import CliRunner  # noqa: PLC0415

    from definet_flows.cli import app  # noqa: PLC0415

    for command in (["records", "list"], ["savings"], ["status"]):
        result = CliRunner().invoke(app, [*command, "--store", str(path)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception


# ------------------------------------------------------------------ verdicts


@dataclass
class Tally:
    """What became of the mutations of one kind of file."""

    kind: str
    read: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)


def fuzz(reader: Reader, count: int, seed: int = 0) -> Tally:
    """Read mutations in forked children: no traceback, no file by half, no more than 2 GB and 30 s each.

    Call it in a process of its own: a child forked from one whose libraries hold threads may wait for ever.
    """
    tally = Tally(reader.kind)
    for number in range(count):
        data = mutated(reader.whole, random.Random(f"{reader.kind} {seed} {number}"))  # noqa: S311 - a seed
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / reader.name
            path.write_bytes(data)
            verdict = _forked(reader, path)
            left = [p.name for p in Path(folder).iterdir() if p.name.endswith(".part")]
        if left:
            verdict = f"left {left}"
        if verdict == "read":
            tally.read += 1
        elif verdict == "refused":
            tally.refused += 1
        else:
            tally.faults.append(f"{reader.kind} {number}: {verdict}")
    return tally


def _forked(reader: Reader, path: Path) -> str:
    """Return "read", "refused", or what went wrong."""
    inlet, outlet = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries sleep when this forks
        child = os.fork()
    if child == 0:
        os.close(inlet)
        _child(reader, path, outlet)
    os.close(outlet)
    with os.fdopen(inlet, "rb") as pipe:
        told = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return told if os.WIFEXITED(status) and told else f"signal {os.WTERMSIG(status)}"


def _child(reader: Reader, path: Path, outlet: int) -> None:
    verdict = "lost"
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(4 * SECONDS)  # one that waits uses no processor
        os.chdir(path.parent)
        sys.stdout = sys.stderr = io.StringIO()
        warnings.simplefilter("ignore")
        verdict = _judge(reader, path)
    finally:
        os.write(outlet, verdict.encode())
        os._exit(0)


def _judge(reader: Reader, path: Path) -> str:
    from definet_flows.errors import InputError  # noqa: PLC0415

    try:
        reader.read(path)
    except InputError as error:
        return "refused" if str(error).strip() and "\n" not in str(error) else f"several lines: {error!s:.200}"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "definet_flows" in f.filename]
        return f"{type(error).__name__}: {' '.join(str(error).split()):.120} at {ours[-1:] or where[-1:]}"
    return "read"


def main() -> None:
    """Print the table; python tests/support/fuzz_readers.py COUNT [KIND ...]."""
    count, kinds = int(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        chosen = [one for one in readers(Path(folder)) if not kinds or one.kind in kinds]
        print(f"{'reader':16}{'mutations':>10}{'read':>8}{'refused':>8}{'faults':>8}", flush=True)
        tallies = []
        for reader in chosen:
            one = fuzz(reader, count)
            print(f"{one.kind:16}{count:10}{one.read:8}{one.refused:8}{len(one.faults):8}", flush=True)
            print("".join(f"  {fault}\n" for fault in one.faults), end="", flush=True)
            tallies.append(one)
    sys.exit(any(one.faults for one in tallies))


if __name__ == "__main__":
    main()
