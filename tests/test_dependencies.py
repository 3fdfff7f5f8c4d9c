"""What is imported is declared in pyproject.toml, and what is declared is used."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from sources import imports_of

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()
OURS = {"definet_flows", "standins", "benchmarks"}
HELPERS = {path.stem for path in (ROOT / "tests").rglob("*.py")}
UNIMPORTED = {
    "sevenn": "atomate2 loads it by name; the quickstart relaxes with it",
    "tensorboard": "Lightning's TensorBoardLogger needs it",
}
"""Dependencies that no module imports, and why they are there."""
WHERE_INSTALLED = {"abtem"}
"""Used where a user has installed it; what misses it says how to get it."""


def names(requirements: list[str]) -> set[str]:
    """Return the normalised distribution names of requirements."""
    return {re.split(r"[^\w.-]", text)[0].lower().replace("_", "-").replace(".", "-") for text in requirements}


def imported(folder: str) -> set[str]:
    """Return the first part of each module from elsewhere that a folder imports."""
    found = set().union(*imports_of(ROOT / folder).values())
    return found - OURS - HELPERS - set(sys.stdlib_module_names)


def providers(module: str) -> set[str]:
    """Return the installed distributions that hold a module."""
    return names(DISTRIBUTIONS.get(module, [module]))


def undeclared(modules: set[str], declared: set[str]) -> set[str]:
    return {module for module in modules if not providers(module) & declared}


USERS = names(PROJECT["dependencies"] + [one for extra in EXTRAS if extra != "dev" for one in EXTRAS[extra]])


@pytest.mark.parametrize(
    ("folder", "declared"),
    [
        ("definet_flows", USERS),
        ("examples", USERS),
        ("standins", USERS | names(EXTRAS["dev"])),
        ("benchmarks", USERS | names(EXTRAS["dev"]) | WHERE_INSTALLED),
        ("tests", USERS | names(EXTRAS["dev"])),
    ],
)
def test_what_is_imported_is_declared(folder, declared):
    assert undeclared(imported(folder), declared) == set()


def test_a_module_that_another_dependency_brings_counts_as_undeclared():
    assert undeclared({"yaml", "networkx"}, {"pyyaml", "pymatgen"}) == {"networkx"}


def test_what_is_declared_is_imported():
    used = set().union(*map(providers, imported("definet_flows")))
    assert names(PROJECT["dependencies"]) - used == set(UNIMPORTED)


def test_each_dependency_has_a_lower_bound():
    assert [text for text in PROJECT["dependencies"] if ">=" not in text] == []
