"""Pre-relaxation of structures in memory: pymatgen's Structures and ASE's Atoms."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from definet_flows.errors import InputError
from definet_flows.model.inference.checkpoint import DEFAULT_MODEL, Checkpoint, load_checkpoint
from definet_flows.schemas import DEFINET, FloatArray
from definet_flows.starts.by_name import outside_campaigns
from definet_flows.starts.network import NetworkPreRelaxer
from definet_flows.starts.samples import sampled
from definet_flows.structures.crystal import Crystal
from definet_flows.structures.crystals import crystal_of
from definet_flows.structures.in_host import PredictedCrystal, predict_crystals
from definet_flows.structures.labels import charge_of, drop_labels, drop_results
from definet_flows.structures.match import finder_for

if TYPE_CHECKING:
    from definet_flows.stores.opening import StoreLike

_REPETITIONS = 3  # along a, b, c


@dataclass(frozen=True, eq=False)
class Prerelaxed:
    """What pre-relaxation makes of one structure.

    Attributes
    ----------
    structure
        The same atoms in the same order, with lattice, charge, labels and site properties of the input. The positions
        are the predicted ones; after the verdict "rejected" they are those of the input.
    verdict
        Of the gate: "accepted", "flagged" (moved all the same) or "rejected". Without a prediction it is "rejected".
    reason
        Why the gate flags or rejects; why there is no prediction.
    uncertainty
        Expected mean |component| error of the prediction, Å; None where the pre-relaxer states none.
    largest_displacement
        Largest displacement of an atom that the pre-relaxer proposes, Å; None without a prediction.
    host
        What the host was found to be, such as "MoS2 8 x 8 x 1"; None where none fits.
    defects
        What the structure was read as, such as "v_S+W_Mo"; empty for the bulk supercell.
    note
        What a reader must know: atoms that are fixed, atoms that start far from the host's sites.
    members
        Number of samples that lead to this prediction.
    alternatives
        The other predictions that samples lead to, each in a result of its own, most members first. Predictions that
        the gate rejects are not among them. Empty for `samples=1`.
    """

    structure: Structure
    verdict: Literal["accepted", "flagged", "rejected"]
    reason: str
    uncertainty: float | None
    largest_displacement: float | None
    host: str | None = None
    defects: str = ""
    note: str = ""
    members: int = 1
    alternatives: tuple[Prerelaxed, ...] = ()


def prerelax(  # noqa: PLR0913 - the options of `definet prerelax`
    structures: Structure | Atoms | Iterable[Structure | Atoms],
    host: Structure | Atoms | str | Path | None = None,
    *,
    prerelaxer: str = DEFINET,
    model: Checkpoint | str | Path = DEFAULT_MODEL,
    store: StoreLike | None = None,
    settings: str | None = None,
    supercell: Sequence[int] | None = None,
    charge: int | None = None,
    allow_unseen_host: bool = False,
    samples: int = 1,
) -> list[Prerelaxed]:
    """Move the atoms of defect structures to where a pre-relaxer expects them after a relaxation.

    The rules are those of `definet predict`. The inputs stay as they are. What was computed for the old positions
    (energies, forces) is left out of a structure that moves. A structure that cannot be predicted is a result with
    the verdict "rejected" and a reason, so that it costs the others nothing.

    Parameters
    ----------
    structures
        Defect structures in supercells of a host, atoms on the host's sites in any order, image, frame or origin.
        A single Structure or Atoms counts as a list of length 1.
    host
        Unit cell or bulk supercell of the host: a Structure, ASE's Atoms, a file, or the name of a shipped host.
        None: the host that fits, of those that the weights were trained on; for "definet" alone.
    prerelaxer
        What proposes: "definet" (the network), "fields" (of the record store's relaxations of the host),
        "potential:sevennet", "potential:sevennet-l3i5", "potential:chgnet", or a chain such as
        "fields+potential:sevennet".
    model
        The network: name of weights in the package, path of a `.safetensors` file, or a Checkpoint (`checkpoint_of`
        gives that of a model in a record store).
    store
        The record store that "fields" learn from: a name, a path or a maggma Store; None: that of the settings.
    settings
        Beginning of the settings hash whose relaxations "fields" learn from; None: the only one in the store.
    supercell
        Repetitions of the host's cell along a, b, c. None: from the lattice.
    charge
        Net charge of every structure, elementary charges. None: what each structure tells (the `charge` of a
        Structure, `info["charge"]` of Atoms); oxidation states are no charge.
    allow_unseen_host
        Let the gate accept a host that the weights were not trained on.
    samples
        Predictions of each structure; for "definet" alone. The first is that of the network. Each further prediction
        comes from one of its members, from a start whose atoms near the defects are displaced at random by 0.04 Å;
        the same input gives the same predictions. Distinct predictions are the `alternatives`.

    Returns
    -------
    list of Prerelaxed
        In the order of the input.

    Raises
    ------
    InputError
        No such model, pre-relaxer or host, a store without relaxations of the host, an impossible supercell, charge
        or number of samples, or an item that is no Structure and no Atoms with a cell.

    Examples
    --------
    >>> from definet_flows import prerelax
    >>> results = prerelax([structure], "MoS2")  # doctest: +SKIP
    >>> start = results[0].structure  # doctest: +SKIP
    >>> charged = prerelax(structures, "GaN.cif", prerelaxer="fields", store="gan.sqlite")  # doctest: +SKIP
    """
    given = [structures] if isinstance(structures, Structure | Atoms) else _listed(structures)
    starts = [_structure(item, k) for k, item in enumerate(given)]
    net = None if charge is None else charge_of({"charge": charge})
    _check_samples(samples, prerelaxer)
    chosen, card = outside_campaigns(
        prerelaxer, host, lambda: _checkpoint(model), store, settings, allow_unseen_host=allow_unseen_host
    )
    finder = finder_for(card, host, _repetitions(supercell))
    read = [_crystal(item, net) for item in given]
    crystals = [one for one in read if isinstance(one, Crystal)]
    sampler = None
    if samples > 1 and isinstance(chosen, NetworkPreRelaxer):
        sampler = partial(sampled, chosen, samples=samples)
    predicted = iter(predict_crystals(chosen, finder, crystals, sampler))
    return [
        _result(start, PredictedCrystal(None, one) if isinstance(one, str) else next(predicted))
        for start, one in zip(starts, read, strict=True)
    ]


def _check_samples(samples: int, prerelaxer: str) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer) or samples < 1:
        raise InputError(f"samples={samples!r}: give a whole number above zero")
    if samples > 1 and prerelaxer != DEFINET:
        raise InputError(f"samples={samples} with prerelaxer={prerelaxer!r}: only {DEFINET}, the network, has samples")


def _listed(structures: Iterable[Structure | Atoms]) -> list[Structure | Atoms]:
    if isinstance(structures, str | Path) or not isinstance(structures, Iterable):
        msg = f"structures={structures!r}: give Structures or ASE's Atoms; `definet predict` takes files"
        raise InputError(msg)
    return list(structures)


def _structure(item: Structure | Atoms, k: int) -> Structure:
    """Return a Structure of its own for the result."""
    if isinstance(item, Structure):
        return _own(item)
    if not isinstance(item, Atoms):
        msg = f"structure {k} is a {type(item).__name__}: give a pymatgen Structure or ASE's Atoms"
        raise InputError(msg)
    if item.cell.rank < _REPETITIONS:
        raise InputError(f"structure {k}: its Atoms have no cell, three lattice vectors are needed")
    atoms = item.copy()  # type: ignore[no-untyped-call]
    atoms.set_constraint([one for one in atoms.constraints if isinstance(one, FixAtoms | FixCartesian)])
    drop_labels(atoms)
    start = AseAtomsAdaptor.get_structure(atoms)
    with suppress(InputError):  # a charge that is none is the reason of a rejection, later
        if net := charge_of(item.info):
            start.set_charge(net)
    return start


def _own(structure: Structure) -> Structure:
    """Return a copy that shares nothing with the structure."""
    start = structure.copy()
    start.properties = copy.deepcopy(structure.properties)
    return start


def _crystal(item: Structure | Atoms, charge: float | None) -> Crystal | str:
    """Return what is to be predicted, or why it cannot be."""
    try:
        return crystal_of(item, charge)
    except InputError as error:
        return str(error)


def _checkpoint(model: Checkpoint | str | Path) -> Checkpoint:
    if isinstance(model, Checkpoint):
        return model
    if isinstance(model, str | Path):
        return load_checkpoint(model)
    raise InputError(f"model={model!r}: give a name, the path of a .safetensors file, or a Checkpoint")


def _repetitions(supercell: Sequence[int] | None) -> tuple[int, int, int] | None:
    if supercell is None:
        return None
    numbers = np.asarray(supercell)
    if numbers.shape != (_REPETITIONS,) or numbers.dtype.kind not in "iu" or numbers.min() < 1:
        raise InputError(f"supercell={supercell!r}: give three whole numbers above zero, such as (8, 8, 1)")
    a, b, c = numbers.tolist()
    return a, b, c


def _result(start: Structure, one: PredictedCrystal) -> Prerelaxed:
    """Return a structure's result; the atoms of an accepted or flagged prediction are moved."""
    alternatives = tuple(_result(_own(start), other) for other in one.alternatives)
    verdict = "rejected" if one.gate is None or one.frac is None else one.gate.verdict
    if one.frac is not None and verdict != "rejected":
        _move(start, one.frac)
    return Prerelaxed(
        structure=start,
        verdict=verdict,
        reason=one.reason,
        uncertainty=one.uncertainty,
        largest_displacement=one.largest,
        host=one.found.label if one.found else None,
        defects=one.defects,
        note=one.note,
        members=one.members,
        alternatives=alternatives,
    )


def _move(structure: Structure, frac: FloatArray) -> None:
    drop_results(structure.properties)
    for site, coordinates in zip(structure, frac, strict=True):
        site.frac_coords = coordinates
        drop_results(site.properties)
