"""What sources import, read without running them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def imports(source: str) -> set[str]:
    """Return the first part of each module that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def imports_of(folder: Path) -> dict[Path, set[str]]:
    """Return what each module below a folder imports."""
    return {path: imports(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py")}
