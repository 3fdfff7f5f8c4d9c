"""Text of others: plain on a terminal and in a log, escaped in a table, quoted in a path.

Names, reasons, ids and errors come from stores and files that other people write.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

_CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f"  # C0 and C1 but the line feed; a tab would break columns
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff]"  # halves of a character, which no terminal takes
)
"""What drives a terminal, turns the direction of text, or hides in it."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST = 160  # of a file name's 255 bytes: endings are added
_DIGEST = 16


def plain(text: str) -> str:
    r"""Return text whose control and direction characters are visible, as `\x1b`; line feeds stay."""
    return _CONTROL.sub(lambda found: _code(found.group()), text)


def one_line(text: str) -> str:
    r"""Return `plain` text with visible line feeds, `\n`: a name cannot look like the next line of a log."""
    return plain(text).replace("\n", r"\n")


def cell(value: object) -> object:
    """Return a cell of a CSV file: text that a spreadsheet would compute gets an apostrophe in front.

    So does text that begins with an apostrophe: without the first apostrophe each cell is what it was. Numbers stay.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def file_name(text: str) -> str:
    """Return a name of a file or folder, for a text that may hold anything; different texts have different names.

    Letters and digits of ASCII and `_ . - + ( )` stay, all else is percent-encoded: a separator, a leading dot or
    sign, the first letter of a name that Windows keeps for a device. A long name ends in `~` and digits of its hash.
    """
    name = quote(text, safe="+()", errors="surrogatepass").replace("~", "%7E")
    if len(name) > _LONGEST:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
        name = f"{name[:_LONGEST].rstrip('%')}~{digest}"
    if name.startswith((".", "-", "+")) or _DEVICES.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name.endswith("."):
        name = f"{name[:-1]}%2E"
    return name or "%"


def _code(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
