"""Random configurations by concentration, without symmetry duplicates, the same on every machine."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from definet_flows.defects.charges import charges_of
from definet_flows.defects.enumeration import enumerate_configurations, require_atoms
from definet_flows.defects.kinds import Choices, DefectKind, Wish
from definet_flows.defects.sites.candidates import CandidatePlaces, find_places
from definet_flows.defects.sites.symmetry import canonical
from definet_flows.errors import InputError
from definet_flows.schemas import Configuration, Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TRIES = 200  # draws in a row that bring nothing new before giving up


class Sampling(Wish):
    """Random configurations by concentration, instead of all placements.

    Examples
    --------
    >>> Sampling(concentrations=(0.025, 0.05), per_concentration=10).seed
    0
    """

    concentrations: tuple[float, ...] = Field(min_length=1, description="shares of defective sites, above 0 to 1")
    per_concentration: int = Field(default=100, ge=1, description="configurations of each concentration")
    seed: int = Field(default=0, description="the same seed gives the same configurations on every machine")

    @field_validator("concentrations")
    @classmethod
    def _shares(cls, concentrations: tuple[float, ...]) -> tuple[float, ...]:
        for share in concentrations:
            if not 0 < share <= 1:
                msg = f"concentration {share:g}: a share of the sites is above 0 and at most 1, such as 0.025"
                raise InputError(msg)
        return concentrations


def select_configurations(host: Host, choices: Choices, sampling: Sampling | None = None) -> Iterator[Configuration]:
    """Yield every symmetry-inequivalent configuration that the choices allow, or with `sampling` random ones.

    Raises as `enumerate_configurations` or `sample_concentration`.
    """
    if sampling is None:
        return enumerate_configurations(host, choices)
    return sample_concentration(host, choices, sampling.concentrations, sampling.per_concentration, sampling.seed)


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
        A concentration that makes no defect, as many as another concentration, or more than the limits allow; too few
        inequivalent configurations; choices that limit the total number of defects, which the concentrations say.
    """
    sizes = _sizes(host, choices, concentrations)
    places = find_places(host, choices)
    for concentration, size in zip(concentrations, sizes, strict=True):
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
            require_atoms(host, [DefectKind(new=edit.new, old=edit.old) for edit in found.edits])
            for charge in charges_of(host, choices, _content(found)):
                yield found.model_copy(update={"charge": charge})


def _sizes(host: Host, choices: Choices, concentrations: Sequence[float]) -> list[int]:
    for name, unset in (("max_defects", None), ("min_defects", 1)):
        number = getattr(choices, name)
        if number != unset:
            msg = f"{name}={number}: the concentrations say how many defects there are; drop it"
            raise InputError(msg)
    sizes: dict[int, float] = {}
    for concentration in concentrations:
        size = _size(host, concentration)
        if size in sizes:  # the same configurations could be drawn for both
            both = f"{sizes[size]:g} and {concentration:g}"
            msg = f"concentrations {both} of {host.n_sites} sites make {size} defects each; drop one concentration"
            raise InputError(msg)
        sizes[size] = concentration
    return list(sizes)


def _size(host: Host, concentration: float) -> int:
    size = int(concentration * host.n_sites + 1e-9) if 0 < concentration <= 1 else 0
    if size == 0:
        msg = f"concentration {concentration:g} of {host.n_sites} sites makes {size} defects; give shares such as 0.025"
        raise InputError(msg)
    return size


def _draw(rng: random.Random, places: CandidatePlaces, size: int, choices: Choices) -> Configuration | None:
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
