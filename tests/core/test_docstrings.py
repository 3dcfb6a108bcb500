"""The docstring of every public function says what its signature cannot: shapes, dtypes, each argument, errors, the source."""

import inspect
import re
from collections.abc import Callable

import pytest

import jax_aiter
import jax_aiter.parallel
from jax_aiter.ops import catalogue

#: of AITER or of those who call it; these have no such source, and say what they are for
OWN = {"convert_fp8", "pack_int4", "rope_tables"}
#: takes whatever it is given
TOTAL = {"if_aiter_supported"}
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


def _others() -> dict[str, Callable]:
    """Public names that are no ops: functions, classes, the settings; of `jax_aiter` and `jax_aiter.parallel`."""
    ops, found = set(catalogue.functions()), {}
    for module in (jax_aiter, jax_aiter.parallel):
        names = {name: getattr(module, name) for name in dir(module) if not name.startswith("_") and name not in ops}
        found |= {name: x for name, x in names.items() if callable(x)}
    return found


@pytest.mark.parametrize("name", _others())
def test_every_other_public_name_says_what_it_is_what_it_takes_and_what_it_raises(name):
    found = _others()[name]
    text = inspect.getdoc(found) or ""
    if inspect.isclass(found) and issubclass(found, Exception):
        assert len(text.split()) > 8  # when it is raised, and what its message names
        return
    as_there = re.search(r"\bas (of|for|in)? ?`\w+`|as `\w+` takes", text)
    said = [] if as_there else [n for n in inspect.signature(found).parameters if not re.search(rf"\b{n}\b", text)]
    assert said == []
    assert len(text.split()) > 8
    if not inspect.isclass(found) and inspect.signature(found).parameters and name not in TOTAL:
        assert re.search(r"\b[Rr]aises?\b", text), "errors"


def test_what_is_left_out_is_named():
    def poor(x, scale):
        """Scale.

        Args:
          x: the operand.

        Returns:
          A result.
        """

    assert lacking(poor) == ["scale", "a shape", "a dtype", "errors", "its source"]
