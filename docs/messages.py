"""The messages of every InputError, read from the code: `python docs/messages.py` prints them as a page."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "definet_flows"
_ERRORS = {"InputError", "BusyError", "BadDocumentError"}
_VALUE = "…"
_TITLE = """# Every message

The messages of the package by module, as the code holds them. `…` stands for a value.
[Troubleshooting](/troubleshooting.md) groups those that a user meets most.
"""


def called(node: ast.expr) -> str:
    """Return the last part of a dotted name; empty for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def template(node: ast.expr | None) -> str:
    """Return a string of the code with `…` for each value; empty if it is no string."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else _VALUE for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def assigned(name: str, scope: ast.AST) -> list[str]:
    """Return the strings that a scope assigns to a name."""
    nodes = [node for node in ast.walk(scope) if isinstance(node, ast.Assign)]
    return [text for node in nodes if name in map(called, node.targets) if (text := template(node.value))]


def possible(argument: ast.expr, function: ast.AST, module: ast.Module, returned: dict[str, list[str]]) -> list[str]:
    """Return what a message may say: written there, assigned before, or returned by a function of the package."""
    if isinstance(argument, ast.Name):
        return assigned(argument.id, function) or assigned(argument.id, module)
    if isinstance(argument, ast.Call):
        return returned.get(called(argument.func), [])
    return [template(argument)]


def messages() -> dict[str, list[str]]:
    """Return the messages of each module, by its path in the package."""
    modules = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    functions = {
        path: [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)] for path, tree in modules.items()
    }
    returned = {
        node.name: [
            text for inner in ast.walk(node) if isinstance(inner, ast.Return) if (text := template(inner.value))
        ]
        for nodes in functions.values()
        for node in nodes
    }
    found: dict[str, list[str]] = {}
    for path, tree in modules.items():
        calls = [
            (call, scope)
            for scope in [*functions[path], tree]
            for call in ast.walk(scope)
            if isinstance(call, ast.Call) and called(call.func) in _ERRORS and call.args
        ]
        texts = [text for call, scope in calls for text in possible(call.args[0], scope, tree, returned) if text]
        if texts:
            found[path.relative_to(PACKAGE).as_posix()] = list(dict.fromkeys(" ".join(text.split()) for text in texts))
    return found


def page() -> str:
    """Return the page, in Markdown."""
    parts = [
        "\n".join([f"## {module}", "", *(f"- `` {text} ``" for text in texts)]) for module, texts in messages().items()
    ]
    return "\n\n".join([_TITLE.strip(), *parts]) + "\n"


if __name__ == "__main__":
    print(page())  # noqa: T201 - what it is for
