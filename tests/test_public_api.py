"""The public names: importable, described, listed; documents import nothing deeper."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

import definet_flows

ROOT = Path(__file__).parents[1]
NAMES = [name for name in definet_flows.__all__ if name != "__version__"]
PLAIN = {
    "ACQUISITIONS",
    "InputError",
    "LeftOutWarning",
}  # a dict and exceptions: they take no parameters
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.*"))]
DEEPER: dict[str, str] = {}
"""Deeper modules that a page may import from, each with the reason."""

_ISSUED = ("prerelax", "Prerelaxed", "Sampling", "preset", "Filter", "make_host", "savings", "ActiveLearningMaker")
_IMPORT = re.compile(r"^\s*(?:from|import)\s+(definet_flows\.[\w.]+)", flags=re.MULTILINE)
_MODULE = re.compile(r"`(definet_flows(?:\.[a-z_]\w*)*\.)(\w+)(?:\([^`]*\))?`")


def test_all_is_sorted_and_complete():
    assert definet_flows.__all__ == sorted(set(definet_flows.__all__))
    assert set(NAMES) == set(definet_flows._HOMES)
    assert set(_ISSUED) <= set(NAMES)
    assert set(definet_flows.__all__) <= set(dir(definet_flows))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = definet_flows.nothing


def test_types_are_those_of_the_lazy_names():
    text = (ROOT / "definet_flows" / "__init__.py").read_text(encoding="utf-8")
    typed = text.split("if TYPE_CHECKING:")[1].split("__version__ =")[0]
    found = {}
    for module, names in re.findall(r"from ([\w.]+) import (?:\(([^)]*)\)|(?:.*))", typed):
        line = names or re.search(rf"from {re.escape(module)} import (.*)", typed)[1]
        found |= {name.strip(): module for name in line.split(",") if name.strip()}
    assert found == definet_flows._HOMES


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_described(name):
    value = getattr(definet_flows, name)
    if name == "ACQUISITIONS":
        assert set(value) >= {"random", "uncertainty", "diverse", "saving"}
        return
    text = inspect.getdoc(value) or ""
    assert text.splitlines()[0].rstrip().endswith((".", ":")), "a first line that is a sentence"
    if name in PLAIN:
        return
    if inspect.isclass(value) and issubclass(value, BaseModel):
        assert [field for field, known in value.model_fields.items() if not known.description] == []
        return
    heading = re.search(r"^(Parameters|Attributes)\n-{10}$", text, flags=re.MULTILINE)
    assert heading, "a numpy docstring with parameters or attributes"
    described = set(re.findall(r"\w+", text[heading.end() :]))
    if not inspect.isclass(value):
        assert set(inspect.signature(value).parameters) <= described


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("prerelax", "elementary charges"),
        ("Prerelaxed", "Å"),
        ("make_host", "Å"),
        ("recover", "Å"),
        ("from_pymatgen", "elementary charges"),
        ("DefectFlowMaker", "Å"),
        ("PotentialRelaxMaker", "eV/Å"),
        ("VaspDefectRelaxMaker", "μB"),
        ("ActiveLearningMaker", "Å"),
        ("gather", "core-hours"),
    ],
)
def test_a_physical_quantity_has_its_unit(name, unit):
    assert unit in inspect.getdoc(getattr(definet_flows, name))


@pytest.mark.parametrize(
    ("name", "field", "unit"),
    [
        ("Choices", "min_distance", "Å"),
        ("Choices", "max_distance", "Å"),
        ("Choices", "charges", "elementary charges"),
        ("Recipe", "supercell", "Å"),
        ("Sampling", "concentrations", "shares"),
    ],
)
def test_a_physical_field_has_its_unit(name, field, unit):
    assert unit in getattr(definet_flows, name).model_fields[field].description


def test_nothing_heavy_is_imported_before_it_is_used():
    heavy = "{'torch', 'jobflow', 'atomate2', 'maggma', 'pymatgen', 'ase', 'numpy', 'lightning'}"
    code = f"import sys, definet_flows; dir(definet_flows); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_lists_every_name():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| \S.* \|$", page, flags=re.MULTILINE)
    assert sorted(listed) == definet_flows.__all__


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_imports_nothing_deeper(page):
    text = page.read_text(encoding="utf-8")
    assert sorted(set(_IMPORT.findall(text)) - set(DEEPER)) == []
    public = re.findall(r"from definet_flows import ([\w, ]+)", text)
    assert {name.strip() for line in public for name in line.split(",")} <= set(definet_flows.__all__)
    modules = {"definet_flows." + name for name in ("hosts", "defects", "model", "workflows", "stores")}
    for prefix, name in _MODULE.findall(text):
        assert name in definet_flows.__all__ or prefix + name in modules, f"`{prefix}{name}`"
