"""Random configurations by concentration, without symmetry duplicates, the same on every machine."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from definet_flows.defects.charges import charges_of
from definet_flows.defects.kinds import Choices, DefectKind
from definet_flows.defects.places import Places, find_places
from definet_flows.defects.symmetry import canonical
from definet_flows.errors import InputError
from definet_flows.schemas import Configuration, Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TRIES = 200  # draws in a row that bring nothing new before giving up


def sample_concentration(
    host: Host,
    choices: Choices,
    concentrations: Sequence[float],
    per_concentration: int = 100,
    seed: int = 0,
) -> Iterator[Configuration]:
    """Yield random configurations, `per_concentration` for each share of defective sites, all inequivalent within it.

    Each has int(c x sites) defects, drawn one after another uniformly from the (site, kind) pairs that the limits
    `max_on`, `max_per_kind`, `min_distance` and `max_distance` leave. A concentration's configurations depend on the
    seed and on nothing drawn before; `random.Random` gives the same numbers on every machine and Python version.

    Parameters
    ----------
    host
        The supercell.
    choices
        Kinds and limits; the numbers of defects come from the concentrations.
    concentrations
        Shares of all sites, each above 0 and at most 1.
    per_concentration
        Configurations of each.
    seed
        Whole number.

    Raises
    ------
    InputError
        A concentration that makes no defect or more than the limits allow, or too few inequivalent configurations.
    """
    places = find_places(host, choices)
    for concentration in concentrations:
        size = _size(host, concentration)
        rng = random.Random(f"{seed}/{concentration!r}")  # noqa: S311  (not for secrets)
        seen: set[str] = set()
        failures = 0
        while len(seen) < per_concentration:
            drawn = _draw(rng, places, size, choices)
            found = None if drawn is None else canonical(host, drawn)
            if found is None or found.id_in("") in seen:
                failures += 1
                if failures > _TRIES:
                    raise _exhausted(concentration, size, len(seen), per_concentration)
                continue
            failures = 0
            seen.add(found.id_in(""))
            for charge in charges_of(host, choices, _content(found)):
                yield found.model_copy(update={"charge": charge})


def _size(host: Host, concentration: float) -> int:
    size = int(concentration * host.n_sites + 1e-9) if 0 < concentration <= 1 else 0
    if size == 0:
        msg = f"concentration {concentration:g} of {host.n_sites} sites makes {size} defects; give shares such as 0.025"
        raise InputError(msg)
    return size


def _draw(rng: random.Random, places: Places, size: int, choices: Choices) -> Configuration | None:
    """Draw one configuration; None if the limits leave no room."""
    pairs = [(place, slot.kind) for slot in places.slots for place in slot.places.tolist()]
    compatible = places.compatible
    chosen: dict[int, DefectKind] = {}
    kinds: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    while len(chosen) < size and pairs:
        index = int(rng.random() * len(pairs))
        pairs[index], pairs[-1] = pairs[-1], pairs[index]
        site, kind = pairs.pop()
        room = kinds[kind.name] < choices.max_per_kind.get(kind.name, size)
        room = room and elements[kind.on] < choices.max_on.get(kind.on, size) and site not in chosen
        if room and (compatible is None or compatible[site, list(chosen)].all()):
            chosen[site] = kind
            kinds[kind.name] += 1
            elements[kind.on] += 1
    if len(chosen) < size:
        return None
    return Configuration(edits=tuple(places.edit(kind, site) for site, kind in chosen.items()))


def _content(configuration: Configuration) -> list[tuple[DefectKind, int]]:
    return list(Counter(DefectKind(new=edit.new, old=edit.old) for edit in configuration.edits).items())


def _exhausted(concentration: float, size: int, found: int, wanted: int) -> InputError:
    return InputError(
        f"concentration {concentration:g} ({size} defects): only {found} of {wanted} inequivalent configurations found "
        f"within the limits; raise max_per_kind or max_on, or ask for fewer"
    )
