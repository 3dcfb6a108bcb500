"""What a number counts or is measured in stands in the docstring: of every argument whose name is a quantity's, in a table here.

It may stand with the argument, in a formula of the docstring that the argument is part of, or where the argument's text points to.
"""

import inspect
import re
from collections.abc import Callable, Iterator

import pytest

import jax_aiter
import jax_aiter.parallel
from jax_aiter.ops import catalogue

#: names of arguments (of the whole name, as expressions) and what must be said of them
UNITS = {
    r"(\w+_)?eps(ilon)?": r"added to",
    r"(?!transpose_|weights_)(\w+_)?(de)?scales?": r"factor|times|multipl|of the scores|divided by|\*",
    r"max_seqlen\w*|max_qlen|next_n|num_(accepted|local)_tokens|total_tokens|length|seq_len": r"tokens|queries|rows|keys",
    r"context_lens|seq_lens|kv_last_page_lens": r"tokens|keys|column",
    r"capacity": r"tokens|rows|slots",
    r"sliding_window|attention_chunk_size": r"keys|tokens|positions",
    r"cu_seqlens\w*|cu_seq_lens|query_start_loc|(?!work_|reduce_)\w+_indptr": r"rows|tokens|queries|pages",
    r"positions": r"rows of the table|token",
    r"page_size|block_size|block_m": r"tokens|rows",
    r"block_tables?|slot_mapping|kv_indices": r"blocks?\b|pages?\b|slots?\b",
    r"cos|sin": r"cosines",
    r"return_lse|lse_\w": r"natural logarithm",
    r"logits_soft_cap|logit_cap": r"tanh",
    r"alibi_slopes": r"per token",
    r"temperature": r"divided by|/ temperature",
    r"top_p|min_p|dropout": r"probabilit",
    r"group_size|quant_block_size": r"columns",
    r"(hidden|intermediate)_pad": r"columns",
    r"(swiglu_)?limit": r"clamp|clip|at most|min\(",
    r"num_cu": r"compute units",
    r"splitK": r"log|parts|2\^",
    r"gk?|A_log": r"logarithm",
    r"sinks": r"score|logit",
}
ENTRY = re.compile(r"^  (\w+(?:, \w+)*|\w[^:]*): (.*(?:\n    .*)*)", re.M)
POINTER = re.compile(r"\b(?:as|what)(?: in| of| for)? `(\w+)`")


def arguments(text: str) -> dict[str, str]:
    """What stands with each argument, in one line; arguments that stand together have the same."""
    found = re.search(r"^Args:\n(.*?)(\n\n|\Z)", text, re.M | re.S)
    entries = ENTRY.findall(found[1]) if found else []
    return {name.strip(): " ".join(said.split()) for names, said in entries for name in names.split(",")}


def formulas(text: str, name: str) -> bool:
    """Whether the argument is part of an arithmetic expression."""
    found = re.findall(r"``([^`]+)``", " ".join(text.split()))
    return any(re.search(rf"(?<![\w=]){name}\b(?!=)", f) and re.search(r"[*/+·^]| - |exp\(|sqrt", f) for f in found)


def says(function: Callable, name: str, unit: str, seen: tuple[str, ...] = ()) -> bool:
    text = inspect.getdoc(function) or ""
    found = arguments(text)
    said = found.get(name) or " ".join(entry for entry in found.values() if name in entry) or found.get("the others", "")
    if re.search(unit, said) or formulas(text, name):
        return True
    others = [other for other in POINTER.findall(said) if other not in seen and named(other) not in (None, function)]
    return any(says(named(other), name, unit, (*seen, other)) for other in others)


def named(name: str) -> Callable | None:
    for module in (jax_aiter, jax_aiter.parallel):
        if callable(found := getattr(module, name, None)):
            return found
    return catalogue.function(name) if name in catalogue.functions() else None


def quantities() -> Iterator[tuple[str, str]]:
    """Public functions and their arguments that the table knows."""
    names = {*catalogue.functions(), *(n for m in (jax_aiter, jax_aiter.parallel) for n in dir(m) if not n.startswith("_"))}
    for name in sorted(names):
        function = named(name)
        if function is not None and not inspect.isclass(function):
            found = [p for p in inspect.signature(function).parameters if unit_of(p)]
            yield from ((name, p) for p in found)


def unit_of(argument: str) -> str | None:
    return next((unit for pattern, unit in UNITS.items() if re.fullmatch(pattern, argument)), None)


@pytest.mark.parametrize("function", sorted({name for name, _ in quantities()}))
def test_a_quantity_has_its_unit(function):
    mine = [p for name, p in quantities() if name == function]
    assert [p for p in mine if not says(named(function), p, unit_of(p))] == []


def test_every_line_of_the_table_is_about_some_argument():
    names = {p for _, p in quantities()}
    assert [pattern for pattern in UNITS if not any(re.fullmatch(pattern, p) for p in names)] == []


def test_what_says_nothing_is_found():
    def poor(x, epsilon, x_scale, block_size):
        """``x * x_scale``, or so.

        Args:
          x: an operand.
          epsilon: static, > 0.
          x_scale: float32.
          block_size: static, as in `rms_norm`.
        """

    assert [p for p in ("epsilon", "x_scale", "block_size") if not says(poor, p, unit_of(p))] == ["epsilon", "block_size"]
