"""Options that choose records, stated once for every command that asks a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from definet_flows.report.names import Asked

HostName = Annotated[str | None, typer.Option("--host", help="Only this host, by reduced formula such as MoS2.")]
Name = Annotated[str | None, typer.Option("--name", help="Only these defects, such as v_S+W_Mo.")]
EngineName = Annotated[str | None, typer.Option("--engine", help="Only this engine, such as vasp.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="Only these weights: registry id such as definet-2dmd, or beginning of the sha256."),
]
PreRelaxer = Annotated[
    str | None, typer.Option("--prerelaxer", help="Only starts of this pre-relaxer, such as definet, fields, a chain.")
]
Where = Annotated[
    list[str],
    typer.Option(
        help="Only these, as FIELD=VALUE, again for each: n_defects=2, charge=-1, n_sites=192, settings_hash=..."
    ),
]


def read_filter(
    host: str | None,
    name: str | None,
    engine: str | None,
    weights: str | None,
    prerelaxer: str | None,
    where: list[str],
) -> Asked:
    """Return what the options ask for.

    Raises
    ------
    InputError
        If there is no such field, or a value is of the wrong type.
    """
    from definet_flows.errors import InputError
    from definet_flows.report.names import Asked
    from definet_flows.stores import Filter

    options = {"host": host, "name": name, "engine": engine, "weights": weights, "prerelaxer": prerelaxer}
    given = {key: value for key, value in options.items() if value is not None}
    for item in where:
        field, equals, value = item.partition("=")
        if not equals or field in given:
            msg = f"--where {item}: write each field once, as n_defects=2"
            raise InputError(msg)
        given[field] = value
    named = {field: given.pop(field, None) for field in ("weights", "prerelaxer")}
    return Asked(Filter.parse(given), **named)
