"""Shipped training recipes, as YAML files beside this module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from definet_flows.errors import InputError
from definet_flows.yaml_file import read_mapping

if TYPE_CHECKING:
    from definet_flows.model.training.train import TrainConfig

_FOLDER = Path(__file__).parent


def read_recipe(ref: str) -> TrainConfig:
    """Return the recipe of a name (`shipped`, `paper`) or of a YAML file.

    Raises
    ------
    InputError
        If there is none, or it holds an unknown key or a value out of range.
    """
    from definet_flows.model.training.train import TrainConfig  # noqa: PLC0415 - Lightning takes seconds to import

    path = Path(ref) if ref.endswith((".yaml", ".yml")) else _FOLDER / f"{ref}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.yaml")))
        raise InputError(f"no recipe {ref!r}: a .yaml file or one of {known}")
    content = read_mapping(path, "recipe")
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where}: {first['msg']}") from None
