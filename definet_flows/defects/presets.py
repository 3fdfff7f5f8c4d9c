"""The recipes of the published data sets, doi:10.1038/s41524-025-01728-w and doi:10.1038/s41699-023-00369-1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from definet_flows.defects.kinds import Choices, Wish
from definet_flows.defects.sampling import Sampling, select_configurations
from definet_flows.errors import InputError
from definet_flows.schemas import Configuration, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

PRESETS = ("2dmd-low", "2dmd-high")

_CONCENTRATIONS = (0.025, 0.05, 0.075, 0.1, 0.125)
_CAPS: dict[str, tuple[int, dict[str, int]]] = {
    # host: (supercell repetitions along a and b, most defects of each kind)
    "MoS2": (8, {"v_Mo": 4, "W_Mo": 4, "v_S": 8, "Se_S": 8}),
    "WSe2": (8, {"v_W": 4, "Mo_W": 4, "v_Se": 8, "S_Se": 8}),
    "BN": (8, {"v_B": 4, "C_B": 4, "v_N": 4, "C_N": 4}),
    "GaSe": (6, {"v_Ga": 5, "In_Ga": 5, "v_Se": 5, "S_Se": 5}),
    "InSe": (6, {"v_In": 5, "Ga_In": 5, "v_Se": 5, "S_Se": 5}),
    "P": (6, {"v_P": 9, "N_P": 9}),
}
_LOW: dict[str, dict[str, int]] = {"MoS2": {"Mo": 1, "S": 2}, "WSe2": {"W": 1, "Se": 2}}


class Recipe(Wish):
    """Which configurations of which supercell: all that the choices allow, or random ones by concentration."""

    supercell: tuple[int, int, int] | float | None = Field(
        default=None, description="repetitions along a, b, c; or the minimum image distance, Å; None: 12 Å"
    )
    choices: Choices = Field(description="kinds, limits and charges")
    sampling: Sampling | None = Field(default=None, description="None: all placements")

    def configurations(self, host: Host) -> Iterator[Configuration]:
        """Yield the configurations in a host."""
        return select_configurations(host, self.choices, self.sampling)


def preset(name: str, formula: str, seed: int = 0) -> Recipe:
    """Return the recipe of a published data set for a host.

    Parameters
    ----------
    name
        "2dmd-low": all placements of at most one defect on the metal and two on the chalcogen of MoS2 and WSe2;
        "2dmd-high": 100 random configurations at each of 2.5, 5, 7.5, 10, 12.5 % defective sites of six hosts.
    formula
        Reduced formula of the host.
    seed
        Of random configurations.

    Raises
    ------
    InputError
        An unknown preset, or a host that it does not have.
    """
    if name not in PRESETS:
        msg = f"preset {name!r} is not one of {', '.join(PRESETS)}"
        raise InputError(msg)
    hosts = tuple(_LOW if name == "2dmd-low" else _CAPS)
    if formula not in hosts:
        msg = f"preset {name} has no recipe for host {formula}, only for {', '.join(hosts)}"
        raise InputError(msg)
    repeat, caps = _CAPS[formula]
    if name == "2dmd-low":
        choices = Choices(defects=tuple(caps), max_on=_LOW[formula])
        return Recipe(supercell=(repeat, repeat, 1), choices=choices)
    choices = Choices(defects=tuple(caps), max_per_kind=caps)
    sampling = Sampling(concentrations=_CONCENTRATIONS, seed=seed)
    return Recipe(supercell=(repeat, repeat, 1), choices=choices, sampling=sampling)
