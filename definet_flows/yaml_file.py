"""YAML files that users write: read with limits, refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from definet_flows.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST = 2**20  # bytes
_MOST_NODES = 100_000  # with every alias written out


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Return the keys and values of a YAML file; an empty file has none.

    Parameters
    ----------
    path
        The file.
    what
        What it is to the user, such as "placement"; the message begins with it.

    Raises
    ------
    InputError
        If it cannot be read, is no YAML, no mapping, or its aliases grow without bound. The message quotes nothing of
        the file: there may be a password in it.
    """
    try:
        content = _load(path)
    except OSError as error:
        raise InputError(f"{what} {path}: {error.strerror}: name a readable file") from None
    except UnicodeDecodeError:
        raise InputError(f"{what} {path} is no YAML: it is not UTF-8 text") from None
    except RecursionError:
        raise InputError(f"{what} {path} is nested too deeply: write it flat") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        where = f", line {mark.line + 1}" if mark else ""
        problem = error.problem if isinstance(error, yaml.MarkedYAMLError) and mark else type(error).__name__
        raise InputError(f"{what} {path}{where} is no YAML: {' '.join(str(problem).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{what} {path} holds no keys with values: write lines such as 'name: value'")
    return content


def _load(path: Path) -> object:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise yaml.YAMLError
    text = data.decode()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None and _size(node, {}) > _MOST_NODES:
        raise RecursionError
    return yaml.safe_load(text)


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """Count the nodes with every alias written out; infinite where a node holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        inner: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
        children = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]
