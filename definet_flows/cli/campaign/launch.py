"""`definet launch`: a campaign into a queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from definet_flows.cli import options
from definet_flows.cli.app import app, console
from definet_flows.cli.campaign.check import tell_lines
from definet_flows.cli.campaign.engine import write_campaign_inputs
from definet_flows.cli.campaign.options import CampaignOptions, campaign_command
from definet_flows.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fireworks import LaunchPad

    from definet_flows.workflows.campaign.preflight import CheckLine
    from definet_flows.workflows.queue.plan import Launched, Plan
    from definet_flows.workflows.queue.routing import Placement

_FAILED = 1
_PREDICTED_AT_ONCE = 500
_OF_WORKERS = ("program", "POTCAR")  # the workers may have these if this machine lacks them


@app.command()
@campaign_command
def launch(
    campaign: CampaignOptions,
    to: Annotated[Literal["fireworks", "jobflow-remote"], typer.Option("--to", help="The queue.")],
    placement: options.Placement = None,
    launchpad: Annotated[
        Path | None,
        typer.Option(help="FireWorks: my_launchpad.yaml.  \\[default: the file that `lpad` finds]"),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="jobflow-remote: name of the project.  \\[default: its current project]")
    ] = None,
    write_inputs: options.WriteInputs = None,
) -> None:
    """Put the campaign of HOST into a queue, after the checks of `definet check`; the ids are printed.

    The same command again adds only missing work: nothing that is recorded, waiting or running. Failed
    relaxations are left to `definet retry`.
    """
    from definet_flows.workflows.campaign.preflight import preflight
    from definet_flows.workflows.queue.plan import make_plan
    from definet_flows.workflows.queue.routing import read_placement

    if write_inputs is not None:
        write_campaign_inputs(campaign.maker(), campaign.host, write_inputs)
        return
    maker, placed = campaign.maker(_PREDICTED_AT_ONCE), read_placement(placement)
    files = [path for path in (placement, launchpad) if path is not None]
    _require_sound(preflight(maker, campaign.host, placed, files))
    plan = make_plan(maker, campaign.host)
    columns = (TextColumn("adding"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(plan.campaign.ids))
        launched = _launch(plan, to, placed, launchpad, project, lambda count: bar.advance(task, count))
    _tell(launched, to)


def _require_sound(lines: list[CheckLine]) -> None:
    """Print the lines of the check; end if something would fail wherever the jobs run."""
    tell_lines(lines)
    failing = {line.subject for line in lines if line.level == "fail"}
    if failing.difference(_OF_WORKERS):
        console.print("nothing was added")
        raise typer.Exit(_FAILED)
    if failing:
        console.print(f"{', '.join(sorted(failing))}: missing on this machine only; the workers that relax need them")


def _launch(
    plan: Plan, to: str, placed: Placement, launchpad: Path | None, project: str | None, tell: Callable[[int], None]
) -> Launched:
    if to == "fireworks":
        from definet_flows.workflows.queue.fireworks import launch_fireworks

        return launch_fireworks(plan, open_launchpad(launchpad), placed, tell)
    from definet_flows.workflows.queue.jobflow_remote import launch_remote

    return launch_remote(plan, project, placed, tell)


def open_launchpad(path: Path | None) -> LaunchPad:
    """Return the LaunchPad of a file, or of the file that FireWorks finds."""
    from fireworks import LaunchPad
    from fireworks.fw_config import LAUNCHPAD_LOC
    from fireworks.utilities.exceptions import FWSerializationError
    from jobflow import SETTINGS
    from maggma.stores import MemoryStore
    from pymongo.errors import PyMongoError
    from ruamel.yaml.error import YAMLError

    from definet_flows.workflows.campaign.outputs import job_store_fault

    found = path or LAUNCHPAD_LOC
    if found is None or not Path(found).is_file():
        msg = (
            f"no my_launchpad.yaml {f'at {path}' if path else 'here or in ~/.fireworks'}: make it, or give --launchpad"
        )
        raise InputError(msg)
    docs = SETTINGS.JOB_STORE.docs_store
    if isinstance(docs, MemoryStore):
        why = job_store_fault() or "jobflow has none"
        msg = f"jobflow has no JobStore that several machines can share: set it in ~/.jobflow.yaml ({why})"
        raise InputError(msg)
    try:
        return LaunchPad.from_file(str(found))
    except (YAMLError, FWSerializationError, PyMongoError, TypeError, ValueError, KeyError) as error:
        msg = f"{found} describes no LaunchPad ({type(error).__name__}): see examples/cluster/my_launchpad.yaml"
        raise InputError(msg) from None


def _tell(launched: Launched, to: str) -> None:
    if launched.workflows:
        kind = "FireWorks workflow" if to == "fireworks" else "jobflow-remote flow"
        several = "s" * (len(launched.workflows) != 1)
        text = f"added {kind}{several} with the id{several} {' '.join(launched.workflows)}"
        console.print(text, soft_wrap=True, highlight=False)
    if launched.deferred:
        then = "" if to == "fireworks" else ", by the same command"
        state = "the host is relaxed first" if launched.workflows else "the host is being relaxed"
        console.print(f"{state}; added when it has ended{then}: {_count(launched.deferred)}", highlight=False)
    if launched.later:
        then = "is added when its predecessor has ended" if to == "fireworks" else "is added by the same command then"
        console.print(f"later stages: {_count(launched.later)}; each stage {then}", highlight=False)
    for count, text in (
        (launched.added, "added"),
        (launched.waiting, "waiting or running already"),
        (launched.done, "recorded already"),
        (launched.failed, "failed: definet retry"),
        (launched.elsewhere, "relaxed by another campaign, or lost: definet retry"),
    ):
        if count:
            console.print(f"{_count(count)} {text}", highlight=False)


def _count(number: int) -> str:
    return f"{number} configuration{'s' * (number != 1)}"
