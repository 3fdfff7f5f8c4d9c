"""From the options that say which configurations are wanted to a Recipe; the same in every command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from definet_flows.cli import options
from definet_flows.errors import InputError

if TYPE_CHECKING:
    from definet_flows.defects import Recipe, Sampling

Repetitions = tuple[int, int, int]

_UNLIMITED: dict[str, Any] = {
    "defects": (),
    "min_defects": 1,
    "max_defects": None,
    "max_on": {},
    "max_per_kind": {},
    "min_distance": None,
    "max_distance": None,
}


def read_recipe(
    host: str,
    *,
    supercell: tuple[str, str, str] | None,
    min_image: float | None,
    defect: list[str],
    min_defects: int,
    max_defects: int | None,
    max_on: list[str],
    max_kind: list[str],
    min_distance: float | None,
    max_distance: float | None,
    charge: list[str],
    concentration: list[float],
    per_concentration: int | None,
    seed: int,
    preset: str | None,
) -> Recipe:
    """Return the supercell, the choices and the sampling that the options of the same names ask for.

    Raises
    ------
    InputError
        If an option is malformed or missing, or two options exclude each other.
    """
    from definet_flows.defects import Choices, Recipe

    limits = {
        "defects": tuple(defect),
        "min_defects": min_defects,
        "max_defects": max_defects,
        "max_on": options.parse_limits(max_on, "--max-on"),
        "max_per_kind": options.parse_limits(max_kind, "--max-kind"),
        "min_distance": min_distance,
        "max_distance": max_distance,
    }
    charges = options.parse_charges(charge)
    cell = _cell(supercell, min_image)
    if preset is not None:
        if concentration or per_concentration or limits != _UNLIMITED:
            msg = f"--preset {preset} brings its own defects, limits and concentrations; drop yours"
            raise InputError(msg)
        recipe = _preset(preset, host, seed)
        choices = Choices(**{**recipe.choices.model_dump(), "charges": charges})
        return recipe.model_copy(update={"choices": choices, "supercell": recipe.supercell if cell is None else cell})
    if not defect:
        msg = f"no defects: give at least 1, such as --defect v_{_anion(host)}, or a --preset"
        raise InputError(msg)
    sampling = _sampling(concentration, per_concentration, seed)
    return Recipe(supercell=cell, choices=Choices(**limits, charges=charges), sampling=sampling)


def _sampling(concentration: list[float], per_concentration: int | None, seed: int) -> Sampling | None:
    from definet_flows.defects import Sampling

    if per_concentration and not concentration:
        msg = f"--per-concentration {per_concentration}: give a --concentration too, such as 0.025"
        raise InputError(msg)
    many = {"per_concentration": per_concentration} if per_concentration else {}
    return Sampling(concentrations=tuple(concentration), seed=seed, **many) if concentration else None


def _cell(supercell: tuple[str, str, str] | None, min_image: float | None) -> Repetitions | float | None:
    if supercell is not None and min_image is not None:
        msg = f"--supercell {' '.join(supercell)} and --min-image {min_image:g}: give one of them"
        raise InputError(msg)
    return min_image if supercell is None else options.parse_supercell(supercell)


def _anion(host: str) -> str:
    """Return the most electronegative element of a host."""
    from definet_flows.hosts import load_structure

    return str(max(load_structure(host).elements, key=lambda element: element.X))


def _preset(name: str, host: str, seed: int) -> Recipe:
    from definet_flows.defects import preset
    from definet_flows.hosts import for_layer, load_structure

    unit = load_structure(host)
    recipe = preset(name, unit.reduced_formula, seed)
    size = recipe.supercell
    return recipe.model_copy(update={"supercell": for_layer(size, unit) if isinstance(size, tuple) else size})
