"""The docstring of every public function says what its signature cannot: shapes, dtypes, each argument, errors, the source."""

import inspect
import re

import pytest

import jax_aiter
from jax_aiter.ops import catalogue

#: of AITER or of those who call it; these have no such source, and say what they are for
OWN = {"convert_fp8", "pack_int4", "rope_tables"}
SHAPE = re.compile(r"\[[^\]`]*\]``|any shape|\bas\s+(in|for)\s+`|same shape")
DTYPE = re.compile(r"bfloat16|float(16|32)|u?int(8|32)|float8_e4m3fn|fp8|dtype of `|\bas\s+(in|for)\s+`")


def section(text: str, name: str) -> str:
    """The paragraph under ``Args:`` or ``Returns:`` (or ``Returns, with ...:``), in one line; empty if there is none."""
    found = re.search(rf"^{name}\b[^\n]*:(.*?)(\n\n|\Z)", text, re.M | re.S)
    return " ".join(found[1].split()) if found else ""


def lacking(function) -> list[str]:
    text = inspect.getdoc(function) or ""
    arguments, results = section(text, "Args"), section(text, "Returns")
    missing = [name for name, found in (("Args", arguments), ("Returns", results)) if not found]
    missing += [n for n in inspect.signature(function).parameters if not re.search(rf"\b{n}\b", arguments)]
    missing += ["a shape"] * (not SHAPE.search(text)) + ["a dtype"] * (not DTYPE.search(text))
    missing += ["errors"] * (not re.search(r"\b[Rr]aises\b", text))
    return missing + ["its source"] * (function.__name__ not in OWN and not re.search(r"\bMirrors\b", text))


@pytest.mark.parametrize("name", catalogue.functions())
def test_a_docstring_says_what_a_signature_cannot(name):
    assert lacking(getattr(jax_aiter, name, None) or catalogue.function(name)) == []


def test_what_is_left_out_is_named():
    def poor(x, scale):
        """Scale.

        Args:
          x: the operand.

        Returns:
          A result.
        """

    assert lacking(poor) == ["scale", "a shape", "a dtype", "errors", "its source"]
