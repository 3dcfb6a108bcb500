"""Where the pseudo-code comes from: the string tables in the `tinygrad` wheel."""

from __future__ import annotations

import functools

import pytest


@functools.cache
def load() -> dict[str, str]:
    """Lower-case mnemonic without encoding suffix -> pseudo-code."""
    table = pytest.importorskip("tinygrad.runtime.autogen.amd.cdna.str_pcode", reason="tinygrad's wheel carries AMD's pseudo-code")
    return {op.name.lower().removesuffix("_e32").removesuffix("_e64"): text for op, text in table.PCODE.items()}
