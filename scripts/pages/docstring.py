"""Docstrings and signatures as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax_aiter

SECTION = re.compile(r"(Args|Returns|Raises):$")


def escaped(text: str) -> str:
    """Plain text, with code between backticks, as a cell or paragraph of Markdown."""
    parts = re.split(r"(``?[^`]+``?)", text)
    plain = [re.sub(r"([*_<\[\]|])", r"\\\1", part) if i % 2 == 0 else _code(part) for i, part in enumerate(parts)]
    return "".join(plain)


def _code(part: str) -> str:
    inside = part.strip("`")
    return f"`{inside}`" if "|" not in inside else "<code>" + inside.replace("<", "&lt;").replace("|", "&#124;") + "</code>"


def signature(name: str, function: Callable[..., Any]) -> str:
    found = inspect.signature(function)
    text = _public(f"{name}{found}")
    if len(text) <= 100:
        return text
    lines, star = [], False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            lines.append("*")
            star = True
        lines.append(_public(str(parameter)))
    result = text.rpartition(" -> ")[2]
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f") -> {result}"


def _public(text: str) -> str:
    """Types by the names that a user imports, not by the modules that they are from."""
    text = text.replace("jax.jaxlib._jax.Array", "jax.Array").replace("jaxlib._jax.Array", "jax.Array")
    return re.sub(r"jax_aiter\.(?:\w+\.)+(\w+)", lambda m: f"jax_aiter.{m[1]}" if hasattr(jax_aiter, m[1]) else m[0], text)


def markdown(doc: str) -> str:
    """Sections become headed lists: `Args:` and its like are indented by two, the lines that go on by four."""
    out: list[str] = []
    for paragraph in doc.split("\n\n"):
        head, *rest = paragraph.splitlines() or [""]
        if not (found := SECTION.match(head)):
            out.append(escaped(" ".join(line.strip() for line in paragraph.splitlines())))
            continue
        items: list[str] = []
        for line in rest:
            if line.startswith("   ") or not items:
                (items := [*items, line.strip()]) if not items else items.__setitem__(-1, f"{items[-1]} {line.strip()}")
            else:
                items.append(line.strip())
        out.append(f"**{found[1]}**")
        out.append("\n".join(f"- {_item(item)}" for item in items) if found[1] != "Returns" else escaped(" ".join(items)))
    return "\n\n".join(out)


def _item(text: str) -> str:
    names, colon, about = text.partition(": ")
    if colon and re.fullmatch(r"[\w, *]+", names):
        return f"{', '.join(f'`{n.strip()}`' for n in names.split(','))}: {escaped(about)}"
    return escaped(text)
