"""Recipes that cards and documents name come with the package, and the documents name each."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

from definet_flows.model.training import recipes
from definet_flows.model.training.recipes import read_recipe

ROOT = Path(__file__).parents[2]
SHIPPED = {path.stem for path in Path(recipes.__file__).parent.glob("*.yaml")}
CARDS = sorted((ROOT / "definet_flows" / "model" / "weights").glob("*.md"))
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *CARDS]
MENTION = re.compile(r"recipes? `(\w+)`|`(\w+)` recipe|\(recipe `(\w+)`|--config ([a-z]\w*)(?![\w./])")


def mentions(text: str) -> set[str]:
    """Return the recipes that a text names by the word recipe or as the argument of `--config`."""
    return {name for name in chain(*MENTION.findall(" ".join(text.split()))) if name}


def columns(card: str, wanted: set[str]) -> set[str]:
    """Return the words in backticks in these columns of a card's tables."""
    found: set[str] = set()
    heads: list[str] = []
    for line in card.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        heads = heads if len(heads) == len(cells) else cells
        found |= {
            name
            for head, cell in zip(heads, cells, strict=True)
            if head in wanted
            for name in re.findall(r"`(\w+)`", cell)
        }
    return found


def test_recipes_that_pages_name_are_shipped():
    named = {page.name: mentions(page.read_text(encoding="utf-8")) for page in PAGES}
    assert named["training.md"]
    assert {page: sorted(names - SHIPPED) for page, names in named.items() if names - SHIPPED} == {}


def test_recipes_in_the_tables_of_cards_are_shipped():
    found = set().union(*(columns(card.read_text(encoding="utf-8"), {"recipe", "goes on from"}) for card in CARDS))
    assert {"longer", "alone"} <= found <= SHIPPED


def test_the_page_on_training_says_what_each_recipe_is():
    section = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("## Recipes")[1].split("\n## ")[0]
    assert {name for name in SHIPPED if f"`{name}`" not in section} == set()


def test_each_recipe_says_what_it_is_for_and_is_valid():
    for name in SHIPPED:
        text = (Path(recipes.__file__).parent / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# For "), name
        assert mentions(text) <= SHIPPED, name
        assert read_recipe(name).epochs > 1


def test_a_recipe_that_is_not_shipped_is_seen():
    assert mentions("the recipe `deeper`, or `definet train --config wider -o x`") == {"deeper", "wider"}
    assert columns("| network | recipe |\n|---|---|\n| H | `deeper` |", {"recipe"}) == {"deeper"}
