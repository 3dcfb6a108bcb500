"""Pseudo-code to a tree of tuples: ("kind", ...)."""

from __future__ import annotations

import functools
import re

from .lexer import Token, tokenize

_LEVELS = [
    ["||"],
    ["&&"],
    ["|"],
    ["^"],
    ["&"],
    ["==", "!=", "<>"],
    ["<", "<=", ">", ">="],
    ["<<", ">>"],
    ["+", "-"],
    ["*", "/", "%"],
    ["**"],
]


class Parser:
    def __init__(self, text: str):
        self.tokens = tokenize(text)
        self.at = 0

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def accept(self, text: str) -> bool:
        if self.peek().text == text and self.peek().kind != "end":
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise SyntaxError(f"pseudo-code: expected {text!r}, found {self.peek().text!r}")

    # ---- statements

    def block(self, *stops: str) -> tuple:
        body = []
        while self.peek().kind != "end" and self.peek().text not in stops:
            if not self.accept(";"):
                body.append(self.statement())
        return ("block", body)

    def statement(self) -> tuple:
        keyword = self.peek().text
        handler = {"if": self.if_, "for": self.for_, "declare": self.declare}.get(keyword)
        if handler:
            self.next()
            return handler()
        if keyword == "break":
            self.next()
            return ("break",)
        if keyword == "return":
            self.next()
            return ("return", self.expression())
        left = self.expression()
        for op in ("=", "+=", "-="):
            if self.accept(op):
                right = self.lambda_() if self.peek().text == "lambda" else self.expression()
                if op == "=" and self.accept("="):  # a = b = value
                    return ("block", [("assign", "=", right, value := self.expression()), ("assign", "=", left, value)])
                return ("assign", op, left, right)
        raise SyntaxError(f"pseudo-code: expected an assignment at {self.peek().text!r}")

    def if_(self) -> tuple:
        arms, otherwise = [], ("block", [])
        condition = self.expression()
        self.expect("then")
        arms.append((condition, self.block("elsif", "else", "endif")))
        while not self.accept("endif"):
            if self.accept("elsif"):
                condition = self.expression()
                self.expect("then")
                arms.append((condition, self.block("elsif", "else", "endif")))
            else:
                self.expect("else")
                otherwise = self.block("endif")
        return ("if", arms, otherwise)

    def for_(self) -> tuple:
        name = self.next().text
        self.expect("in")
        first = self.expression()
        self.expect(":")
        last = self.expression()
        self.expect("do")
        body = self.block("endfor")
        self.expect("endfor")
        return ("for", name, first, last, body)

    def declare(self) -> tuple:
        name = self.next().text
        self.expect(":")
        cast = self.next().text
        count = None
        if self.accept("["):
            count = self.expression()
            self.expect("]")
        return ("declare", name, cast, count)

    def lambda_(self) -> tuple:
        self.expect("lambda")
        self.expect("(")
        names = [self.next().text]
        while self.accept(","):
            names.append(self.next().text)
        self.expect(")")
        self.expect("(")
        if self.peek().text in ("if", "declare"):
            body = self.block(")")
        else:
            body = ("return", self.expression())
            self.accept(";")
        self.expect(")")
        return ("lambda", names, body)

    # ---- expressions

    def expression(self) -> tuple:
        condition = self.binary(0)
        if self.accept("?"):
            yes = self.expression()
            self.expect(":")
            return ("ternary", condition, yes, self.expression())
        return condition

    def binary(self, level: int) -> tuple:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek().kind == "op" and self.peek().text in _LEVELS[level]:
            op = self.next().text
            left = ("binary", op, left, self.binary(level + 1))
        return left

    def unary(self) -> tuple:
        if self.peek().kind == "op" and self.peek().text in "-+~!":
            return ("unary", self.next().text, self.unary())
        return self.postfix(self.primary())

    def postfix(self, node: tuple) -> tuple:
        while True:
            if self.accept("."):
                node = ("member", node, self.next().text)
            elif self.accept("["):
                first = self.expression()
                if self.accept(":"):
                    node = ("slice", node, first, self.expression())
                elif self.accept("+:"):
                    node = ("part", node, first, self.expression())
                else:
                    node = ("index", node, first)
                self.expect("]")
            elif self.peek().text == "(" and node[0] == "name":
                self.next()
                node = ("call", node[1], self.arguments())
            else:
                return node

    def arguments(self) -> list:
        args = []
        while not self.accept(")"):
            args.append(self.expression())
            self.accept(",")
        return args

    def primary(self) -> tuple:
        token = self.next()
        if token.kind == "number":
            return number(token.text)
        if token.kind == "cast":
            self.expect("(")
            return ("cast", token.text, self.arguments()[0])
        if token.kind == "name":
            return ("name", token.text)
        if token.text == "(":
            inner = self.expression()
            self.expect(")")
            return inner
        if token.text == "{":
            parts = [self.expression()]
            while self.accept(","):
                parts.append(self.expression())
            self.expect("}")
            return ("concat", parts)
        raise SyntaxError(f"pseudo-code: unexpected {token.text!r}")


def number(text: str) -> tuple:
    """("int", type, width, value) or ("float", width, value)."""
    width, body = None, text
    if "'" in text:
        prefix, body = text.split("'")
        width = int(prefix)
    if "." in body or (re.fullmatch(r"\d+F", body)):
        return ("float", width or (32 if body.endswith("F") else 64), float(body.rstrip("F")))
    suffix = re.search(r"(ULL|LL|U|L)?$", body).group()
    value = int(body[: len(body) - len(suffix)], 0)
    natural = 64 if "LL" in suffix else 32
    return ("int", "u" if "U" in suffix else "i", width or max(natural, value.bit_length()), value)


@functools.cache
def parse(text: str) -> tuple:
    parser = Parser(text)
    tree = parser.block()
    if parser.peek().kind != "end":
        raise SyntaxError(f"pseudo-code: trailing {parser.peek().text!r}")
    return tree
