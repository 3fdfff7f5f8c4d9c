"""`definet import-checkpoint`: weights from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.errors import InputError


@app.command()
def import_checkpoint(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Published weights, name -> tensor: .pt, .pth, .bin or .safetensors."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    hidden: Annotated[int, typer.Option(help="Width F of scalars and vectors.")],
    layers: Annotated[int, typer.Option(help="Number of layers.")] = 4,
    gaussians: Annotated[int, typer.Option(help="Number of radial Gaussians.")] = 128,
    radial_extent: Annotated[float, typer.Option(help="Where Gaussians and envelope end, Å.")] = 30.0,
    cutoff: Annotated[float, typer.Option(help="Sites nearer than this are neighbours, Å.")] = 6.0,
    max_neighbours: Annotated[int, typer.Option(help="Most neighbours of a site.")] = 50,
    name: Annotated[str | None, typer.Option(help="Registry id.  \\[default: the name of the written file]")] = None,
) -> None:
    """Read weights published for DefiNet, without running any code in the file, and write a checkpoint.

    The file does not name their training data: predictions pass the gate only with --allow-unseen-host.
    """
    if out.suffix != ".safetensors":
        msg = f"{out}: name a .safetensors file"
        raise InputError(msg)
    options.check_writable(out)
    from pydantic import ValidationError

    from definet_flows.model.inference.published import import_checkpoint as read
    from definet_flows.model.network.config import NetworkConfig

    try:
        config = NetworkConfig(
            hidden=hidden,
            layers=layers,
            gaussians=gaussians,
            radial_extent=radial_extent,
            cutoff=cutoff,
            max_neighbours=max_neighbours,
        )
    except ValidationError as error:
        first = error.errors()[0]
        msg = f"--{'-'.join(map(str, first['loc'])).replace('_', '-') or 'radial-extent'}: {first['msg']}"
        raise InputError(msg) from None
    checkpoint = read(source, out, config, name or out.stem)
    console.print(f"{checkpoint.name}: {out} (sha256 {checkpoint.sha256[:12]}...)", soft_wrap=True, highlight=False)
    console.print(
        "The training data of these weights are unknown, so the gate rejects their predictions. --allow-unseen-host "
        "accepts them where distances and displacements pass; such starts may be worse than unrelaxed.",
        soft_wrap=True,
    )
