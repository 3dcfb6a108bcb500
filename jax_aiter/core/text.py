"""Text that came from outside, made fit to be printed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# Control characters (a terminal obeys them), the marks that turn the direction of text or hide in it, the bytes of a file name that
# are no text (lone surrogates), and what separates lines for some readers and not for others.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    r"""`text` with every character that would act on a terminal, or not be seen, spelled out as ``\x1b`` or ``\u202e``.

    Line feeds and tabs stay: messages have several lines. `one_line` is for names.
    """
    return _HIDDEN.sub(_spelled, text)


def one_line(name: object) -> str:
    """As `printable`, for a name of a file or kernel inside a sentence: line feeds and tabs are spelled out too."""
    return printable(str(name)).replace("\n", "\\n").replace("\t", "\\t")


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(value: object) -> str:
    """A value as a message shows it: never long, and not at all where it cannot be printed (an integer of thousands of digits)."""
    try:
        text = repr(value)
    except Exception as error:  # whatever an object's own repr raises
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text if len(text) <= 200 else f"{text[:200]}..."


def json_by_line(entries: Mapping[str, Any]) -> str:
    """A JSON object with a line for each entry, in order: files that grow by entries, and are compared line by line."""
    return "{\n" + ",\n".join(f' "{key}": {json.dumps(entry, sort_keys=True)}' for key, entry in sorted(entries.items())) + "\n}\n"
