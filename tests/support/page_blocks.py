"""The code blocks of a page of Markdown: what they are, what is shown under them, and why some do not run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from pathlib import Path

_REASON = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
_NEEDS = re.compile(r"<!-- needs (\w+) -->")
_NUMBER = re.compile(r"(?<![\w.])~?-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_HASH = re.compile(r"(?<!\w)(?=\w*\d)[0-9a-f]{8,}(?!\w)")
_RULES = re.compile(r"[─━═┄]{3,}")
SHOWN = "text"
"""The language of a block that shows what the block before it prints."""


@dataclass(frozen=True)
class Block:
    """A fenced or an indented block; `span` holds its first line and the line after it, marks included.

    A block that needs a package runs where the package is installed.
    """

    language: str
    text: str
    span: tuple[int, int]
    indent: str = ""
    reason: str | None = None
    needs: str | None = None

    @cached_property
    def commands(self) -> list[str]:
        """The lines of a console block, continued lines joined."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def blocks(path: Path) -> list[Block]:
    """Return the code blocks of a page.

    A comment `<!-- not run: REASON -->` or `<!-- needs PACKAGE -->` stands right before its block.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    found, comment = [], ""
    for token in MarkdownIt().parse("\n".join(lines)):
        if token.type == "html_block":
            comment += token.content
        elif token.type in {"fence", "code_block"} and token.map is not None:
            reason, needs = _REASON.search(comment), _NEEDS.search(comment)
            first = lines[token.map[0]]
            indent = first[: len(first) - len(first.lstrip())]
            place = (token.map[0], token.map[1])
            conditions = (reason[1] if reason else None, needs[1] if needs else None)
            found.append(Block(token.info.strip(), token.content, place, indent, *conditions))
            comment = ""
        elif token.nesting >= 0:
            comment = ""
    return found


def with_output(found: list[Block]) -> list[tuple[Block, Block | None]]:
    """Return each block that can run with the block under it that shows its output."""
    following = [*found[1:], Block("", "", (0, 0))]
    return [
        (one, after if after.language == SHOWN else None)
        for one, after in zip(found, following, strict=False)
        if one.language in {"python", "bash"}
    ]


def agrees(shown: str, printed: str) -> bool:
    """
    Compare what a page shows with what was printed.

    A line `...` stands for any lines. A number may differ by 1 or by a fifth: relaxations take other numbers of steps
    where a processor rounds in another way. A number behind `~` stands for any, such as a time, or a saving of time,
    which may be negative. Hashes, empty lines and the widths of columns do not count.
    """
    wanted, seen = _lines(shown), _lines(printed)
    parts: list[list[str]] = [[]]
    for line in wanted:
        if line == "...":
            parts.append([])
        else:
            parts[-1].append(line)
    return _fits(parts, seen)


def _fits(parts: list[list[str]], seen: list[str]) -> bool:
    """Whether the parts follow each other in what was seen: the first at its beginning, the last at its end."""
    head, *rest = parts
    if not _same(head, seen[: len(head)]):
        return False
    if not rest:
        return len(head) == len(seen)
    seen = seen[len(head) :]
    *middle, last = rest
    for part in middle:
        starts = [k for k in range(len(seen) - len(part) + 1) if _same(part, seen[k : k + len(part)])]
        if not starts:
            return False
        seen = seen[starts[0] + len(part) :]
    return len(last) <= len(seen) and _same(last, seen[len(seen) - len(last) :])


def _lines(text: str) -> list[str]:
    plain = _HASH.sub("hash", _RULES.sub("─", text))
    kept = (" ".join(line.split()) for line in plain.splitlines())
    return [line for line in kept if line]


def _same(wanted: list[str], seen: list[str]) -> bool:
    return len(wanted) == len(seen) and all(map(_same_line, wanted, seen))


def _same_line(wanted: str, seen: str) -> bool:
    if _NUMBER.sub("#", wanted) != _NUMBER.sub("#", seen):
        return False
    pairs = zip(_NUMBER.findall(wanted), _NUMBER.findall(seen), strict=True)
    fixed = [(float(a), float(b)) for a, b in pairs if not a.startswith("~")]
    return all(abs(a - b) <= max(1.0, 0.2 * max(abs(a), abs(b))) for a, b in fixed)


def rewrite(path: Path, outputs: list[tuple[Block, str]]) -> None:
    """Put new outputs into the blocks that show them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all(first.span[1] <= second.span[0] for (first, _), (second, _) in pairwise(outputs))
    for block, text in reversed(outputs):
        there = [line.removeprefix(block.indent) for line in lines[block.span[0] + 1 : block.span[1] - 1]]
        assert there == block.text.splitlines(), f"{path}: edited while its code ran"
        body = [f"{block.indent}{line}".rstrip() for line in text.strip("\n").splitlines()]
        lines[block.span[0] + 1 : block.span[1] - 1] = body
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
