"""Prediction and training on a CUDA card: MoS2 8 x 8, ten defects a configuration; tables on standard output.

    python benchmarks/gpu.py                              # on a machine with a card; no network is needed
    python benchmarks/gpu.py --published ../DefiNet       # the authors' code beside it, from a checkout
    python benchmarks/gpu.py --self-test                  # tiny sizes on the CPU, seconds

"eager" is what the package runs. "compiled" is torch.compile of it. A share is the rate of the eager form's matrix
products beside that of a large matrix product in the same run. The exit code is 1 where the card's float64 positions
differ from the CPU's by more than 1e-5 Å. Cases that cannot run show "-", with the reason on standard error.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.support.card import Case, Form, apart, flops, product_rate, seconds, step_of, tried
from benchmarks.support.published import definition
from definet_flows.errors import InputError
from definet_flows.hosts import make_host
from definet_flows.model.inference.device import device_name, full_products, most_configurations
from definet_flows.model.network.config import NetworkConfig

SAME = 1e-5  # Å
GIB = 2**30
TERA = 1e12
NONE = "-"
FORMS = ("eager", "compiled", "published")


@dataclass(frozen=True)
class Plan:
    """Sizes of a run."""

    device: torch.device
    supercell: tuple[int, int, int] = (8, 8, 1)
    hidden: tuple[int, ...] = (64, 128, 512)
    batches: tuple[int, ...] = (1, 8, 64)
    trained: int = 8  # configurations a step, the recipes' batch
    product: int = 8192  # rows of the large matrix product
    least: float = 1.0  # s that each timing takes
    backend: str = "inductor"
    published: Path | None = None

    def case(self, hidden: int, batch: int) -> Case:
        """Return a case of the paper's network, of another width."""
        return Case(make_host("MoS2", self.supercell), NetworkConfig(hidden=hidden), batch, self.device)


def self_test(published: Path | None) -> Plan:
    """Return a plan of seconds on the CPU; dynamo traces the network, and nothing is compiled."""
    sizes = {"supercell": (3, 3, 1), "hidden": (16,), "batches": (1, 2), "trained": 2}
    return Plan(torch.device("cpu"), **sizes, product=128, least=0.01, backend="eager", published=published)


def agreement(plan: Plan) -> tuple[Table, bool]:
    """Return the positions beside the CPU's, and whether those in float64 are the same."""
    table = _table("shipped model, device beside CPU, Å", "precision", "largest", "median", f"sites above {SAME:g}")
    worst = {}
    for dtype in (torch.float64, torch.float32):
        found = apart(make_host("MoS2", plan.supercell), plan.device, dtype, max(plan.batches))
        worst[dtype] = float(found.max())
        row = (f"{found.max():.1e}", f"{np.median(found):.1e}", f"{(found > SAME).mean():.1%}")
        table.add_row(str(dtype).removeprefix("torch."), *row)
    return table, worst[torch.float64] <= SAME


def inference(plan: Plan, rate: float) -> Table:
    """Return ms per structure, and how far the positions are from those of the eager form."""
    heads = (
        "F",
        "batch",
        "eager",
        "compiled",
        "published",
        "share of matmul",
        "GiB",
        "compiled |dx|",
        "published |dx|",
    )
    table = _table("inference, float32, ms per structure; |dx| to eager, Å", *heads)
    for hidden in plan.hidden:
        for batch in plan.batches:
            case = plan.case(hidden, batch)
            _forget(plan.device)
            with torch.no_grad(), full_products():
                done = {
                    name: tried(f"F={hidden} batch={batch} {name}", partial(_positions, plan, make))
                    for name, make in _forms(plan, case).items()
                }
                count = tried(f"F={hidden} batch={batch} count", lambda case=case: flops(case.eager()[1]))
            times = [_ms(done.get(name), batch) for name in FORMS]
            share = f"{count / done['eager'].time / rate:.1%}" if count and done["eager"] else NONE
            memory = done["eager"].memory if done["eager"] else NONE
            _show(table, str(hidden), str(batch), *times, share, memory, *(_apart(done, name) for name in FORMS[1:]))
    return table


def training(plan: Plan, rate: float) -> Table:
    """Return steps a second."""
    heads = (
        "F",
        "eager, bf16",
        "eager, float32",
        "compiled, bf16",
        "published, float32",
        "share of bf16 matmul",
        "GiB",
    )
    table = _table(f"training, batches of {plan.trained}, steps a second", *heads)
    kinds = (("eager", True), ("eager", False), ("compiled", True), ("published", False))
    for hidden in plan.hidden:
        case = plan.case(hidden, plan.trained)
        done = []
        for name, mixed in kinds:
            _forget(plan.device)
            run = partial(_step, plan, case, name, mixed=mixed)
            known = name in _forms(plan, case)
            done.append(tried(f"training F={hidden} {name}{', bf16' * mixed}", run) if known else None)
        first = done[0]
        count = tried(f"training F={hidden} count", lambda case=case: flops(step_of(*case.eager(), mixed=True)))
        share = f"{count / first.time / rate:.1%}" if count and first else NONE
        rates = [f"{1 / one.time:.2f}" if one else NONE for one in done]
        _show(table, str(hidden), *rates, share, first.memory if first else NONE)
    return table


def found_batches(plan: Plan) -> Table:
    """Return, on a card, the batch that the package takes from its free memory, and what that batch needs."""
    table = _table("batch found from free memory", "F", "configurations", "free GiB", "peak GiB", "ms per structure")
    for hidden in plan.hidden if plan.device.type == "cuda" else ():
        _forget(plan.device)
        free = torch.cuda.mem_get_info(plan.device)[0]
        lattice = plan.case(hidden, 1).lattice
        batch = most_configurations(plan.device, lattice.edges.table.numel() * hidden * torch.float32.itemsize)
        case = plan.case(hidden, batch)
        with torch.no_grad(), full_products():
            done = tried(f"F={hidden} batch={batch}", lambda case=case: _run(plan, case.eager()[1]))
        _show(table, str(hidden), str(batch), f"{free / GIB:.1f}", done.memory if done else NONE, _ms(done, batch))
    return table


@dataclass(frozen=True)
class Timed:
    """A case that ran."""

    time: float  # s
    memory: str  # GiB at its peak, on a card
    positions: torch.Tensor  # Å; of a step of training its loss


def _forms(plan: Plan, case: Case) -> dict[str, Callable[[], tuple[nn.Module, Form]]]:
    forms = {"eager": case.eager, "compiled": partial(case.compiled, plan.backend)}
    return forms if plan.published is None else forms | {"published": partial(case.published, plan.published)}


def _positions(plan: Plan, make: Callable[[], tuple[nn.Module, Form]]) -> Timed:
    return _run(plan, make()[1])


def _step(plan: Plan, case: Case, name: str, *, mixed: bool) -> Timed:
    # another network each time: a step changes its weights
    module, form = _forms(plan, replace(case))[name]()
    return _run(plan, step_of(module.train(), form, mixed=mixed))


def _run(plan: Plan, form: Form) -> Timed:
    positions = form().clone()
    time = seconds(form, plan.least)
    peak = f"{torch.cuda.max_memory_allocated() / GIB:.1f}" if plan.device.type == "cuda" else NONE
    return Timed(time, peak, positions)


def _forget(device: torch.device) -> None:
    """Begin a case with the memory that the one before it leaves free."""
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="right")
    return table


def _show(table: Table, *cells: str) -> None:
    print(*cells, file=sys.stderr, flush=True)  # the table comes at the end, minutes from now
    table.add_row(*cells)


def _ms(done: Timed | None, batch: int) -> str:
    return f"{1000 * done.time / batch:.3f}" if done else NONE


def _apart(done: dict[str, Timed | None], name: str) -> str:
    first, other = done["eager"], done.get(name)
    return f"{float((first.positions - other.positions).abs().max()):.1e}" if first and other else NONE


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--published", type=Path, metavar="DIR", help="Checkout of the authors' code.")
    parser.add_argument("--self-test", action="store_true", help="Tiny sizes on the CPU.")
    arguments = parser.parse_args()
    if not (arguments.self_test or torch.cuda.is_available()):
        parser.error(f"torch {torch.__version__} finds no CUDA device: see docs/notes/gpu.md, or try --self-test")
    if arguments.published is not None:
        try:
            definition(arguments.published)
        except InputError as error:
            parser.error(str(error))
    plan = (
        self_test(arguments.published)
        if arguments.self_test
        else Plan(torch.device("cuda"), published=arguments.published)
    )
    full, half = (product_rate(plan.device, t, plan.product, plan.least) for t in (torch.float32, torch.bfloat16))
    console = Console(width=160)
    console.print(
        f"{device_name(plan.device)}; torch {torch.__version__}, CUDA {torch.version.cuda}, {platform.machine()}"
    )
    console.print(f"matrix product: float32 {full / TERA:.3g} TFLOP/s, bf16 {half / TERA:.3g} TFLOP/s")
    table, same = agreement(plan)
    console.print(table, inference(plan, full), training(plan, half), found_batches(plan))
    if not same:
        sys.exit(f"positions in float64 differ by more than {SAME:g} Å")


if __name__ == "__main__":
    main()
