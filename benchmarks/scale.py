"""What a campaign of thousands of configurations costs beside its relaxations, while workers are killed.

    python benchmarks/scale.py FOLDER --minutes 15                          # all below; again, until it has ended
    python benchmarks/scale.py FOLDER --way run --sizes 500 5933            # `definet run`, a SQLite file
    python benchmarks/scale.py FOLDER --way filled --sizes 5933             # the last 500 of them
    python benchmarks/scale.py FOLDER --way fireworks --sizes 500 1500      # `definet launch`, three workers
    python benchmarks/scale.py FOLDER --way cleared --sizes 500             # the same, ended workflows are deleted
    python benchmarks/scale.py FOLDER --way remote --sizes 20               # jobflow-remote's runner, local workers
    python benchmarks/scale.py FOLDER --table --write                       # the table, into docs/notes/cluster.md

The campaign is the low-density preset on 8 x 8 MoS2, or a portion of it spread over all classes, control fraction 5 %.
Every job is a real job. The engine takes milliseconds (`standins/spring_engine.py`), and a small untrained network
predicts (`standins/metered.py`). A minute after work begins, a worker is killed by SIGKILL, and so on each minute
(jobflow-remote: none is killed). With `filled` all but 500 configurations lie in the store when the command begins.

The database server of the queues is SecantusDB, found as in the tests. A campaign that has ended is not run again, one
that was interrupted goes on; what each session took is kept in FOLDER, which may be in memory (/dev/shm).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

from benchmarks.support.scale_table import costs, markdown
from standins.queue_place import ROOT

PAGE = ROOT / "docs" / "notes" / "cluster.md"
SIZES = {"run": (500, 5933), "filled": (5933,), "fireworks": (500, 1500), "cleared": (500,), "remote": (20,)}


def go_on(way: str, place: Path, size: int, until: float) -> bool:
    """Run the campaign of a size in a way, or go on with it; return whether it has ended."""
    # imported here: jobflow reads the settings of a campaign when it is imported
    if way in ("run", "filled"):
        from benchmarks.support import scale_run  # noqa: PLC0415

        return scale_run.go_on(place, size, until, real=scale_run.REAL if way == "filled" else None)
    if way == "remote":
        from benchmarks.support import scale_remote  # noqa: PLC0415

        return scale_remote.go_on(place, size, until)
    from benchmarks.support import scale_queue  # noqa: PLC0415

    return scale_queue.go_on(place, size, until, clear=way == "cleared")


def _work(folder: Path, way: str, size: int, until: float) -> bool:
    """Go on with a campaign in a process of its own: jobflow reads its settings once."""
    place = folder / way / str(size)
    if (place / "ended").exists():
        return True
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if go_on(way, place, size, until) else 3
        except Exception:  # noqa: BLE001 - the next campaign goes on
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        (place / "ended").touch()
    return (place / "ended").exists()


def main() -> None:
    """Go on with each campaign that has not ended, then print the table."""
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=how)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--way", choices=[*SIZES], action="append", help="default: all")
    parser.add_argument("--sizes", type=int, nargs="+", help="default: by way")
    parser.add_argument("--minutes", type=float, default=15.0, help="stop after this time; the same command goes on")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="put the table into docs/notes/cluster.md")
    options = parser.parse_args()
    folder, until = options.folder.absolute(), time.time() + 60 * options.minutes
    for way in () if options.table else options.way or SIZES:
        for size in options.sizes or SIZES[way]:
            if time.time() < until and not _work(folder, way, size, until):
                print(f"{way}, {size} configurations: not ended yet, run the same command again", flush=True)
    table = markdown(costs(folder))
    print(table)
    if options.write:
        from standins.dft_page import put  # noqa: PLC0415 - loads the package

        put(table, PAGE, "table")


if __name__ == "__main__":
    main()
