"""Speed of the network: plain form against the package's, on MoS2 8 x 8, same threads, interleaved, medians.

    GOMP_SPINCOUNT=5000 python benchmarks/speed.py            # the whole table
    GOMP_SPINCOUNT=5000 python benchmarks/speed.py --hidden 128 --batch 8
    OMP_NUM_THREADS=1 python benchmarks/speed.py --kernels    # the forms of the package against each other

Run it alone on the machine; with a single thread it counts processor seconds, which other work disturbs less. Each case
runs in a process of its own, whose peak memory is its own; a case that does not fit into memory shows "-". Before
anything is timed, positions and gradients of both forms are compared.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase.io import write
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.support.eager import plain_batch
from definet_flows.hosts import load_structure, make_host, to_structure
from definet_flows.hosts.cell import replicate
from definet_flows.model.data.batches import lattice_of
from definet_flows.model.data.graph import find_neighbours
from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.network import DefiNet
from definet_flows.model.training import recipes
from definet_flows.schemas import Host
from definet_flows.yaml_file import read_mapping

ROUNDS = 5
SIZES = (8, 16, 32, 64, 129)  # n x n cells of three sites: 192 to 49,923
GIB = 2**20  # of ru_maxrss, which counts KiB
PLAIN_TRAINS = 8  # largest batch of the plain form that fits into 24 GiB when it trains

MEMORY = 10 * 2**30  # bytes of address space that a comparison of the package's forms may have
KERNELS = ("table", "compiled", "fast")
"""The package's neighbour table in plain torch, by torch.compile, and with the kernels."""

Form = Callable[[], torch.Tensor]


def seconds(run: Callable[[], object]) -> float:
    """Time one call."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def make_forms(config: NetworkConfig, batch: int) -> tuple[DefiNet, dict[str, Form]]:
    """Return a network and, for each form, a call that gives the positions of `batch` configurations of ten defects."""
    torch.manual_seed(0)
    host, network = make_host("MoS2", (8, 8, 1)), DefiNet(config)
    numbers, markers = torch.tensor(host.numbers).repeat(batch, 1), torch.zeros(batch, host.n_sites, dtype=torch.long)
    for row in markers:
        row[torch.randperm(host.n_sites)[:10]] = torch.randint(1, 3, (10,))
    table = lattice_of(host, config).to(torch.device("cpu"), torch.float32)
    lattice, compiled = table.fused(), torch.compile(network, dynamic=False)
    positions, edges = plain_batch(host, batch, config)
    return network, {
        "table": lambda: network(numbers, markers, table.positions, table.edges).flatten(0, 1),
        "compiled": lambda: compiled(numbers, markers, table.positions, table.edges).flatten(0, 1),
        "plain": lambda: network(numbers.flatten(), markers.flatten(), positions, edges),
        "fast": lambda: network(numbers, markers, lattice.positions, lattice.edges).flatten(0, 1),
    }


def loss(network: DefiNet, form: Form) -> torch.Tensor:
    """Do the forward and backward pass of one training step; return the positions."""
    network.zero_grad(set_to_none=True)
    out = form()
    out.square().sum(-1).sqrt().mean().backward()
    return out.detach()


def check(network: DefiNet, forms: dict[str, Form], *, trains: bool) -> dict[str, float]:
    """Return the largest difference of the forms' positions, Å, and where both train of their gradients, relative."""
    if not trains:
        with torch.inference_mode():
            plain, fast = (form() for form in forms.values())
        return {"positions": float((plain - fast).abs().max())}
    found = []
    for form in forms.values():
        out = loss(network, form)
        found.append((out, torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])))
    (plain, gradient), (fast, fast_gradient) = found
    worst = float((gradient - fast_gradient).abs().max() / gradient.abs().max())
    return {"positions": float((plain - fast).abs().max()), "gradients": worst}


def kernel_case(hidden: int, batch: int, name: str) -> dict[str, float]:
    """Time a form of the package with the shipped recipe's edges and Gaussians; s per structure, medians."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    recipe = read_mapping(Path(recipes.__file__).with_name("shipped.yaml"), "recipe")
    config = NetworkConfig.model_validate({**recipe["network"], "hidden": hidden})
    network, forms = make_forms(config, batch)
    network.basis.active = lambda _: config.gaussians  # all of them, known to the compiler
    out: dict[str, float] = {}
    with torch.inference_mode():
        expected = forms["table"]()
        out["positions"] = float((forms[name]() - expected).abs().max())
        out["inference"] = _median(forms[name]) / batch
    try:
        out["training"] = _median(lambda: loss(network, forms[name])) / batch
    except RuntimeError as error:
        print(f"training: {error}"[:200], file=sys.stderr)  # no room
    return out


def _median(run: Callable[[], object]) -> float:
    return float(np.median([seconds(run) for _ in range(ROUNDS + 1)][1:]))


def kernels_table(hidden: list[int], batches: list[int], rounds: int = 3) -> Table:
    """Return the forms of the package side by side: each in a process of its own, by turns."""
    table = Table("F", "batch", "", *KERNELS, "best plain / fast", title="shipped recipe, ms per structure")
    for f in hidden:
        for b in batches:
            got = [[alone("--kernel-case", str(f), str(b), name) or {} for name in KERNELS] for _ in range(rounds)]
            for kind in ("inference", "training"):
                times = [np.median([one[k].get(kind, np.inf) for one in got]) for k in range(len(KERNELS))]
                cells = [f"{1000 * x:.2f}" if np.isfinite(x) else "-" for x in times]
                row = (str(f), str(b), kind, *cells, f"{min(times[:2]) / times[2]:.2f}")
                print(*row, file=sys.stderr, flush=True)
                table.add_row(*row)
    return table


def case(hidden: int, batch: int, names: tuple[str, ...]) -> dict[str, float]:
    """Time the forms, interleaved; s per structure, median of the rounds."""
    network, forms = make_forms(NetworkConfig(hidden=hidden), batch)
    forms = {name: forms[name] for name in names}
    trained = {name: form for name, form in forms.items() if name == "fast" or batch <= PLAIN_TRAINS}
    out = check(network, forms, trains=len(trained) == len(forms)) if len(forms) > 1 else {}
    keys = [f"{name} inference" for name in forms] + [f"{name} training" for name in trained]
    times: dict[str, list[float]] = {key: [] for key in keys}
    for _ in range(ROUNDS + 1):
        for name, form in forms.items():
            with torch.inference_mode():
                times[f"{name} inference"].append(seconds(form))
            if name in trained:
                times[f"{name} training"].append(seconds(lambda form=form: loss(network, form)))
    out |= {key: float(np.median(values[1:])) / batch for key, values in times.items()}
    out["gflop"] = gflop(network, forms["fast"], batch)
    out["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    return out


def gflop(network: DefiNet, fast: Form, batch: int) -> float:
    """Count a structure's floating point operations in matrix products, those inside the compiled kernels too."""
    with FlopCounterMode(display=False) as counter:
        fast()
    config, host = network.config, make_host("MoS2", (8, 8, 1))
    edges = len(find_neighbours(np.array(host.lattice), host.cartesian, config).centres)
    return counter.get_total_flops() / batch / 1e9 + 2 * config.layers * edges * config.hidden**2 / 1e9


def size(n: int) -> dict[str, float]:
    """Time building the table of an n x n cell and one prediction on it, F = 128."""
    config = NetworkConfig(hidden=128)
    network, host = DefiNet(config), _supercell(n)
    out = {"sites": float(host.n_sites), "graph": seconds(lambda: lattice_of(host, config))}
    lattice = lattice_of(host, config).to(torch.device("cpu"), torch.float32).fused()
    numbers, markers = torch.tensor(host.numbers)[None], torch.zeros(1, host.n_sites, dtype=torch.long)
    with torch.inference_mode():
        times = [seconds(lambda: network(numbers, markers, lattice.positions, lattice.edges)) for _ in range(4)]
    out["inference"] = float(np.median(times[1:]))
    out["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    return out


def _supercell(n: int) -> Host:
    """Return n x n MoS2; `make_host` takes the largest for a slip of the keyboard."""
    unit = load_structure("MoS2")
    lattice, numbers, coords = replicate(unit, np.diag((n, n, 1)))
    return make_host("MoS2", (1, 1, 1)).model_copy(
        update={
            "lattice": tuple(map(tuple, lattice.tolist())),
            "numbers": tuple(numbers.tolist()),
            "frac_coords": tuple(map(tuple, coords.tolist())),
            "matrix": ((n, 0, 0), (0, n, 0), (0, 0, 1)),
        }
    )


def matrix_product() -> float:
    """Return the GFLOP/s of a large fp32 matrix product."""
    a, b = torch.randn(2, 2048, 2048)
    times = [seconds(lambda: a @ b) for _ in range(6)]
    return 2 * 2048**3 / float(np.median(times[1:])) / 1e9


def alone(*arguments: str) -> dict[str, float] | None:
    """Run one case in a process of its own; None if it does not fit into memory."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def speed_table(hidden: list[int], batches: list[int], peak: float) -> Table:
    """Return plain against fast."""
    table = Table(title="MoS2 8 x 8, fp32, ms per structure", title_justify="left")
    heads = ("F", "batch", "plain inf.", "fast inf.", "ratio", "plain train", "fast train", "ratio")
    for head in (*heads, "GFLOP/s", "share of matmul", "GiB", "max |dx| Å", "max dgrad"):
        table.add_column(head, justify="right")
    for f in hidden:
        for b in batches:
            got = alone("--case", str(f), str(b), "plain,fast") or alone("--case", str(f), str(b), "fast") or {}
            rate = got.get("gflop", 0) / got.get("fast inference", np.inf)
            cells = [str(f), str(b)]
            for kind in ("inference", "training"):
                plain, fast = (got.get(f"{name} {kind}") for name in ("plain", "fast"))
                ratio = f"{plain / fast:.1f}" if plain and fast else "-"
                cells += [f"{1000 * x:.1f}" if x else "-" for x in (plain, fast)] + [ratio]
            checks = [f"{got[key]:.1e}" if key in got else "-" for key in ("positions", "gradients")]
            cells += [f"{rate:.0f}", f"{rate / peak:.0%}", f"{got.get('memory', 0):.1f}", *checks]
            print(*cells, file=sys.stderr, flush=True)  # the table comes at the end, an hour from now
            table.add_row(*cells)
    return table


def size_table() -> Table:
    """Return time against the number of sites."""
    table = Table("sites", "graph, s", "inference, s", "µs per site", "GiB", title="F = 128, one structure")
    for n in SIZES:
        got = alone("--size", str(n))
        if got is None:
            table.add_row(f"{n} x {n}", "-", "-", "-", "-")
            continue
        per_site = 1e6 * got["inference"] / got["sites"]
        cells = (f"{got['graph']:.3f}", f"{got['inference']:.3f}", f"{per_site:.0f}", f"{got['memory']:.1f}")
        table.add_row(f"{got['sites']:.0f}", *cells)
    return table


def files_line(count: int = 500) -> str:
    """Time `definet predict` on CIF files of MoS2 8 x 8, ten random defects each, start-up included."""
    host, draw = make_host("MoS2", (8, 8, 1)), np.random.default_rng(0)
    structure = to_structure(host)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k in range(count):
            sites = draw.choice(host.n_sites, 10, replace=False).tolist()
            one = structure.copy()
            for site in sites[:5]:
                one[site] = "W" if one[site].specie.symbol == "Mo" else "Se"
            one.remove_sites(sites[5:])
            write(folder / f"{k}.cif", one.to_ase_atoms())
        files = [str(folder / f"{k}.cif") for k in range(count)]
        command = ["definet", "predict", *files, "--host", "MoS2", "--supercell", "8", "8", "1"]
        whole = seconds(lambda: subprocess.run([*command, "-o", name + "/out.extxyz"], check=True, capture_output=True))  # noqa: S603
    return f"definet predict, {count} CIF files in, one extxyz out: {whole:.1f} s, {1000 * whole / count:.0f} ms a file"


def main() -> None:
    """Print the tables, or one case as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--files", action="store_true", help="Only predictions on files.")
    parser.add_argument("--kernels", action="store_true", help="Only the package's forms, at F = 64 and 128.")
    parser.add_argument("--kernel-case", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        f, b, names = arguments.case
        print(json.dumps(case(int(f), int(b), tuple(names.split(",")))))
    elif arguments.kernel_case:
        f, b, name = arguments.kernel_case
        print(json.dumps(kernel_case(int(f), int(b), name)))
    elif arguments.kernels:
        Console(width=160).print(kernels_table([64, 128], arguments.batch))
    elif arguments.size:
        print(json.dumps(size(arguments.size)))
    elif arguments.files:
        print(files_line())
    else:
        peak, console = matrix_product(), Console(width=160)
        console.print(f"{torch.get_num_threads()} threads; matrix product {peak:.0f} GFLOP/s")
        console.print(speed_table(arguments.hidden, arguments.batch, peak))
        console.print(size_table())
        console.print(files_line())


if __name__ == "__main__":
    main()
