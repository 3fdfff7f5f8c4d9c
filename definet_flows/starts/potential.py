"""The pre-relaxer `potential`: a universal potential relaxes a configuration before the engine does.

A displacement is the relaxed configuration less the relaxed host, both by the potential, so that what the potential
makes of the host itself is not taken for a part of the defect. Measured: docs/notes/starts-potential.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from textwrap import shorten
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.optimize import BFGS

from definet_flows.defects import nodes, unrelaxed_positions
from definet_flows.errors import InputError
from definet_flows.model.inference.device import busy_cores
from definet_flows.schemas import VACANCY, Configuration, FloatArray, Gate, Host, base_hash, content_hash
from definet_flows.schemas.base import digest
from definet_flows.starts.gate import judge_proposal
from definet_flows.starts.proposals import Proposal
from definet_flows.starts.universal import UNIVERSAL, load_universal, require_package, weights_of

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

PREFIX, DEFAULT = "potential", "sevennet"

FORCE_CRITERION = 0.05
"""Largest force on any atom at the end of a configuration's relaxation, eV/Å."""
HOST_SHARE = 0.1
"""The host is relaxed to this share of the criterion: what is left of its forces moves every configuration."""
MOST_STEPS = 200
"""Steps after which a relaxation counts as not converged."""


@dataclass(eq=False)
class PotentialPreRelaxer:
    """Relax at fixed cell with an ASE calculator, from any start, by BFGS.

    Displacements are less their mean over the atoms, inserted atoms included: a translation is no part of a start.

    Parameters
    ----------
    name
        Name that a user gives, such as "potential:sevennet".
    calculator_factory
        Returns the calculator; called once, when the first configuration is proposed for.
    identity
        What the numbers depend on: the checkpoint with the sha256 of its weights, or a package's version.
    knows_charge
        Whether the calculator takes the charge from `atoms.info["charge"]`. If not, a charged configuration is
        relaxed as a neutral one, and its proposal says so.
    criterion
        Largest force on any atom at the end, eV/Å.
    steps
        Steps after which a relaxation counts as not converged.

    Examples
    --------
    >>> from ase.calculators.emt import EMT
    >>> relaxer = PotentialPreRelaxer("emt", EMT, "ase 3.29")
    >>> proposals = relaxer.propose(host, host.cartesian, configurations)  # doctest: +SKIP
    """

    name: str
    calculator_factory: Callable[[], Calculator]
    identity: str
    knows_charge: bool = False
    criterion: float = FORCE_CRITERION
    steps: int = MOST_STEPS
    slow: ClassVar[bool] = True
    _calculator: Calculator | None = field(default=None, init=False, repr=False)
    _hosts: dict[tuple[str, str], FloatArray | str] = field(default_factory=dict, init=False, repr=False)

    @property
    def key(self) -> str:
        """Hash of the potential, the criterion and the number of steps."""
        return content_hash("potential", self.identity, self.criterion, self.steps)

    @property
    def state(self) -> str:
        """The key: a potential does not learn."""
        return self.key

    def propose(self, host: Host, base: FloatArray, configurations: Sequence[Configuration]) -> list[Proposal]:
        """Return a proposal for each configuration, relaxed from its unrelaxed positions; see `PreRelaxer`."""
        return self.propose_from(host, base, configurations, [None] * len(configurations))

    def propose_from(
        self,
        host: Host,
        base: FloatArray,
        configurations: Sequence[Configuration],
        starts: Sequence[FloatArray | None],
    ) -> list[Proposal]:
        """Return a proposal for each configuration, relaxed from the displacements of another pre-relaxer.

        Parameters
        ----------
        host, base, configurations
            See `PreRelaxer.propose`.
        starts
            Of each configuration, displacements to begin with, Å, [n_rows, 3]; None: unrelaxed.
        """
        if not configurations:
            return []
        began = time.perf_counter()
        rest = self._at_rest(host, base)
        shared = (time.perf_counter() - began) / len(configurations)
        proposals = []
        for configuration, start in zip(configurations, starts, strict=True):
            began = time.perf_counter()
            proposal = self._proposal(host, rest, configuration, start)
            seconds = shared + time.perf_counter() - began
            proposals.append(replace(proposal, seconds=seconds, core_seconds=seconds * busy_cores(self._device())))
        return proposals

    def judge(self, host: Host, configuration: Configuration, base: FloatArray, proposal: Proposal) -> Gate:
        """Return the verdict on a proposal: a potential has no domain, its displacements alone are judged."""
        return judge_proposal(host, configuration, base, proposal)

    def _at_rest(self, host: Host, base: FloatArray) -> FloatArray | str:
        """Return the host's sites as the potential relaxes them from the base, or why it cannot; found once."""
        place = (host.hash, base_hash(base))
        if place not in self._hosts:
            try:
                end = self._relaxed(host, np.array(host.numbers), base, self.criterion * HOST_SHARE)
                self._hosts[place] = end + (base - end).mean(0)
            except InputError as error:
                self._hosts[place] = f"the host {host.formula}: {error}"
        return self._hosts[place]

    def _proposal(
        self, host: Host, rest: FloatArray | str, configuration: Configuration, start: FloatArray | None
    ) -> Proposal:
        """Return a proposal without its times; `rest` is the relaxed host, or why there is none."""
        if isinstance(rest, str):
            return Proposal(None, error=rest)
        try:
            numbers, markers = nodes(host, configuration)
            table = unrelaxed_positions(host, configuration)
            table[: host.n_sites] = rest
            atoms = markers != VACANCY
            first = table if start is None else table + start
            end = self._relaxed(host, numbers[atoms], first[atoms], self.criterion, configuration.charge)
        except InputError as error:
            return Proposal(None, error=str(error))
        moved = np.zeros_like(table)
        moved[atoms] = end - table[atoms]
        moved[atoms] -= moved[atoms].mean(0)
        ignored = configuration.charge and not self.knows_charge
        note = f"{self.name} knows no charge: relaxed as neutral, not {configuration.charge:+d}" if ignored else ""
        return Proposal(moved, note=note, device=self._device())

    def _relaxed(
        self, host: Host, numbers: npt.NDArray[np.int64], positions: FloatArray, criterion: float, charge: int = 0
    ) -> FloatArray:
        """Return the positions at the end of a relaxation, Å, [n_atoms, 3]; an InputError says why there is none."""
        atoms = Atoms(numbers, positions=positions, cell=host.lattice, pbc=True, info={"charge": charge})
        calculator = self._loaded()
        formula = atoms.get_chemical_formula()  # type: ignore[no-untyped-call]
        try:
            atoms.calc = calculator
            forces = _relax(atoms, criterion, self.steps)
        except Exception as error:  # a calculator of any kind: whatever it raises is the result of this structure
            what = shorten(f"{type(error).__name__}: {error}", 160, placeholder=" ...")
            msg = f"{self.name} fails on {formula}: {what}"
            raise InputError(msg) from error
        largest = float(np.linalg.norm(forces, axis=1).max())
        if not np.isfinite(largest):
            msg = f"forces of {self.name} on {formula} are no numbers: it does not know such a structure"
            raise InputError(msg)
        if largest > criterion:
            msg = f"{self.name} has forces of {largest:.3f} eV/Å after {self.steps} steps, above {criterion:g} eV/Å"
            raise InputError(msg)
        end: FloatArray = atoms.positions
        return end

    def _loaded(self) -> Calculator:
        if self._calculator is None:
            self._calculator = self.calculator_factory()
        self._calculator.reset()  # type: ignore[no-untyped-call]
        return self._calculator

    def _device(self) -> str:
        return str(getattr(self._calculator, "device", "cpu")).partition(":")[0]


def _relax(atoms: Atoms, criterion: float, steps: int) -> FloatArray:
    """Relax atoms in place, until forces that are no numbers at most; return the last forces, eV/Å, [n_atoms, 3]."""
    for _ in BFGS(atoms, logfile=None).irun(fmax=criterion, steps=steps):  # type: ignore[no-untyped-call]
        forces: FloatArray = atoms.get_forces()  # type: ignore[no-untyped-call]
        if not np.isfinite(forces).all():
            break
    return forces


def potential_named(name: str) -> PotentialPreRelaxer:
    """Return the pre-relaxer of a potential that has a name; its weights are loaded when it first proposes.

    Parameters
    ----------
    name
        `potential:sevennet` (SevenNet-0; also `potential` alone), `potential:sevennet-l3i5` or `potential:chgnet`.

    Raises
    ------
    InputError
        If the name is unknown or the package is missing.
    """
    prefix, _, chosen = name.partition(":")
    chosen = chosen or DEFAULT
    if prefix != PREFIX or chosen not in UNIVERSAL:
        msg = f"unknown potential {name!r}: take {', '.join(f'{PREFIX}:{known}' for known in UNIVERSAL)}"
        raise InputError(msg)
    require_package(chosen)
    return PotentialPreRelaxer(f"{PREFIX}:{chosen}", partial(load_universal, chosen), identity_of(chosen))


def identity_of(name: str) -> str:
    """Return a potential's checkpoint with the sha256 of its weights, in which two versions of it differ."""
    weights = weights_of(name)
    if weights is None:
        msg = f"the potential {name!r} has no weights in its package: install it again"
        raise InputError(msg)
    return f"{UNIVERSAL[name].checkpoint} sha256:{digest(weights)}"
