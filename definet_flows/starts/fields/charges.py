"""How a total charge is shared among defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Cost = tuple[float, int, tuple[int, ...]]


def split(total: int, options: Sequence[Mapping[int, float | None]]) -> tuple[int, ...]:
    """Return a charge for each defect, their sum as near to the total as the options allow.

    Of the splits with that sum: the lowest sum of energies, if every option has an energy; else, or at equal
    energies, the smallest sum of squared charges, so that no defect is charged without need.

    Parameters
    ----------
    total
        Charge of the configuration, elementary charges.
    options
        Of each defect: the charges that are recorded, with the energy of the relaxed defect, eV.
    """
    known = all(energy is not None for option in options for energy in option.values())
    best: dict[int, Cost] = {0: (0.0, 0, ())}
    for option in options:
        found: dict[int, Cost] = {}
        for so_far, (energy, squares, charges) in best.items():
            for charge, own in option.items():
                cost = (
                    energy + own if known and own is not None else 0.0,
                    squares + charge * charge,
                    (*charges, charge),
                )
                reached = so_far + charge
                found[reached] = min(cost, found.get(reached, cost))
        best = found
    nearest = min(best, key=lambda reached: (abs(reached - total), best[reached]))
    return best[nearest][2]
