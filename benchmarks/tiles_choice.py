"""Which side is faster, for the calls that come with the package: python -m benchmarks.tiles_choice [--arch sm_90].

Takes every measured call of docs/h200_tiles.json (`benchmarks.tiles_report`) and writes its times, under the key by which a call is
looked up and with the form of the reference that XLA's time is of, to ``jax_aiter/bind/defaults/<arch>.json``. A test compares the
two. Parameters, which the page does not say, are those of the calls that were given to the search.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks import tiles_report
from benchmarks.h200 import tile_shapes, tile_shapes_attention
from jax_aiter.bind import forms, measured, tuning
from jax_aiter.core.machine import Form
from jax_aiter.kernels import described as calls_described
from jax_aiter.kernels.provider import Call
from jax_aiter.ops.attention.forms import cudnn
from jax_aiter.ops.catalogue import all_ops

#: XLA's form where JAX finds cuDNN, as it did on the machine that was measured and may not on the one that runs this.
FUSED = {name: Form(cudnn.NAME, fused=True) for name in ("flash_attention", "flash_attention_bwd")}
PAGE = Path(__file__).parents[1] / "docs" / f"{tiles_report.NAME}.json"


def call_of(described: dict[str, Any], arch: str) -> Call:
    """The call of an entry of a shapes file, as auto sees it on a GPU of `arch`."""
    call = calls_described.call_of(described, arch)
    form = forms.form(all_ops()[call.op], call.target.platform, arch, call.operands, call.params)
    return dataclasses.replace(call, reference=FUSED.get(call.op, form))


def calls(arch: str) -> dict[str, Call]:
    """The calls that tiles were searched for, by the name that the page gives them."""
    every = [call_of(described, arch) for described in [*tile_shapes.calls(), *tile_shapes_attention.calls()]]
    return {f"{call.op} {tuning.spelled(call)}": call for call in every}


def entries(page: dict[str, Any], arch: str) -> dict[str, tuning.Entry]:
    """Of two calls of one key the one with which kernels do worse."""
    known, found = calls(arch), {}
    for row in page["rows"]:
        call = known[row["call"]]
        form = "" if call.reference is None else call.reference.name
        seconds = {name: float(f"{us * 1e-6:.4g}") for name, us in row["us"].items()}
        name = tuning.key(call)
        found[name] = tuning.merged(found.get(name), tuning.Entry(seconds, tuning.spelled(call), reference=form))
    return found


def text(page: dict[str, Any], arch: str) -> str:
    return tuning.render(entries(page, arch), device=page["device"], jax=page["jax"]).decode() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="sm_90")
    options = parser.parse_args()
    path = measured.FOLDER / f"{options.arch}.json"
    path.write_text(text(json.loads(PAGE.read_text()), options.arch))
    print(f"{len(tuning.parse(path.read_text()))} calls in {path}")


if __name__ == "__main__":
    main()
