"""A stand-in for VASP: real input, real output, simple physics, and failures on demand. Only for tests.

Environment: VASP_LOG is appended to, one line for each electronic step and force evaluation; VASP_FAILURES is a JSON
file {number of the directory in order of appearance: [mode of its first execution, of its second, ...]}.
A list that ends in "..." repeats the mode before it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

FAILING_STEP = 2  # the ionic step in which a failure happens
SHORT = {"nsw": 3, "scf": 8}  # ionic steps; of ten without SCF custodian's monitor may end VASP at a random instant


def main():
    """Relax as the INCAR says."""
    program = Path(sys.argv[0]).name
    log = Log(Path(os.environ["VASP_LOG"]), program)
    mode = log.mode
    if mode == "exit":
        sys.exit(1)
    Path("OSZICAR").write_text("")  # before the slow imports: monitors must not judge the execution before this one
    from inputs import BadInputError, check_kpoints, read_incar, read_poscar, read_potcar  # noqa: PLC0415
    from output import Output  # noqa: PLC0415

    try:
        tags, (lattice, species, counts, coords) = read_incar(), read_poscar()
        check_kpoints()
        titles, valences = read_potcar([*species, "Zn"] if mode == "potcar" else species)
    except BadInputError as error:
        print(error, flush=True)
        sys.exit(1)
    steps = SHORT.get(mode, int(tags.get("NSW", 0)))
    output = Output({**tags, "NSW": str(steps)}, lattice, (species, counts), (titles, valences), coords)
    relax(tags, output, log, mode, steps)


def relax(tags, output, log, mode, steps):
    """Evaluate forces until they are small, there are no steps left, or the failure strikes."""
    from physics import energy_and_forces, relaxation  # noqa: PLC0415

    signal.signal(signal.SIGTERM, lambda *_: told_to_end.append(True))
    optimizer = relaxation(int(tags["IBRION"]), float(tags.get("POTIM", 0.5)))
    criterion, limit = -float(tags.get("EDIFFG", 0)), int(tags.get("NELM", 60))
    for step in range(1, max(steps, 1) + 1):
        energy, forces = energy_and_forces(output.lattice, output.symbols, output.coords @ output.lattice)
        energy += (1e4 if mode == "positive" else 0.0) - 0.1 * output.moment
        loops = limit if mode == "scf" else 11 if step == 1 else 4 + step % 3
        for loop in range(1, loops + 1):
            output.electronic(step, loop, energy + 10.0**-loop)
            log.write("electronic")
            end_if_told(output)
            if step == FAILING_STEP and loop == 3:
                strike(mode, output)
        output.ionic(step, energy, forces)
        log.write("force")
        end_if_told(output)
        if (forces**2).sum(axis=1).max() ** 0.5 <= criterion:
            output.end("reached required accuracy - stopping structural energy minimisation")
            return
        if steps < 1:
            break
        if Path("STOPCAR").exists():
            output.end("hard stop encountered!  aborting job ...")
            return
        output.move(optimizer.send(forces))
    output.end("")


told_to_end = []


def end_if_told(output):
    """End where a handler asked for it, with output and log in step: neither may know of what the other does not."""
    if told_to_end:
        output.flush()
        os._exit(143)


def strike(mode, output):
    """Fail as VASP fails, in the middle of an ionic step."""
    if mode == "zbrent":
        output.stop("ZBRENT: fatal error in bracketing\n     please rerun with smaller EDIFF, or copy CONTCAR")
    if mode == "edddav":
        output.stop("Error EDDDAV: Call to ZHEGV failed. Returncode =   7 1   8")
    if mode == "disk":
        print("forrtl: severe (38): error during write, unit 12: No space left on device", file=sys.stderr)
        output.stop("")
    if mode == "kill":
        output.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "worker":  # the batch system ends the job: VASP and what started it
        output.flush()
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "slow":  # until someone asks it to stop, as WalltimeHandler does
        output.flush()
        for _ in range(600):
            if Path("STOPCAR").exists():
                return
            time.sleep(0.1)
    if mode == "hang":
        output.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.utime("vasp.out", (1, 1))  # silent for decades
        time.sleep(600)
        sys.exit(1)


class Log:
    """The append-only account of what was computed; nobody but the stand-in writes it."""

    def __init__(self, path, program):
        self.path, self.program, self.directory = path, program, str(Path.cwd())
        known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        starts = [entry["directory"] for entry in known if entry["event"] == "start"]
        self.number = list(dict.fromkeys([*starts, self.directory])).index(self.directory)
        self.execution = starts.count(self.directory)
        self.mode = self._mode()
        self.file = path.open("a")
        self.write("start")

    def write(self, event):
        """Append one event."""
        entry = {"directory": self.directory, "execution": self.execution, "event": event, "program": self.program}
        self.file.write(json.dumps({**entry, "mode": self.mode, "time": time.time()}) + "\n")
        self.file.flush()

    def _mode(self):
        """Return how this execution is to fail; an empty text for not at all."""
        path = os.environ.get("VASP_FAILURES")
        modes = json.loads(Path(path).read_text()).get(str(self.number), []) if path else []
        if modes and modes[-1] == "..." and self.execution >= len(modes) - 1:
            return modes[-2]
        return modes[self.execution] if self.execution < len(modes) else ""


if __name__ == "__main__":
    main()
