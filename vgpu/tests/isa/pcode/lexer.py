"""Tokens of AMD's pseudo-code."""

from __future__ import annotations

import re
from typing import NamedTuple


class Token(NamedTuple):
    kind: str  # number, cast, name, op, end
    text: str


_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<cast>\d+'(?:BF|[UIFB])\b(?!\w))
  | (?P<number>(?:\d+')?(?:0x[0-9a-fA-F]+(?:ULL|LL|U|L)?|\d+\.\d+F?|\d+(?:ULL|LL|U|L|F)?))
  | (?P<name>[A-Za-z_]\w*)
  | (?P<op>\+:|<<=|>>=|<<|>>|<>|<=|>=|==|!=|&&|\|\||\*\*|\+=|-=|[-+*/%&|^~!<>=?:;,.(){}\[\]])
    """,
    re.VERBOSE,
)


def tokenize(text: str) -> list[Token]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SyntaxError(f"pseudo-code: unexpected {text[at : at + 20]!r}")
        if match.lastgroup != "space":
            tokens.append(Token(str(match.lastgroup), match.group()))
        at = match.end()
    return [*tokens, Token("end", "")]
