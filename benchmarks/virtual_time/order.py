"""The estimates by which auto orders kernels on AMD where AITER's tables leave a shape open: jax_aiter/bind/estimates.

python -m benchmarks.virtual_time.order [--arch gfx942|gfx950] [--out FILE]     needs AITER e4048607 and vgpu

bfloat16 products of the weights of four models' layers on one of eight devices, by the hand-written kernel and by Triton's. Nothing
is measured. Calls that only one of the two takes are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vgpu.estimate import Bench

from benchmarks.virtual_time import ops
from benchmarks.virtual_time.report import APART, estimated
from jax_aiter.bind import tuning
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.provider import Call
from vgpu import devices

DEVICE = {"gfx942": "mi300x", "gfx950": "mi355x"}
ROWS = (16, 64, 256, 1024, 4096)
# Llama 70B, Qwen3 235B, DeepSeek V3, gpt-oss 120B: N and K.
WEIGHTS = (
    (1280, 8192), (8192, 1024), (7168, 8192), (8192, 3584), (1152, 4096), (4096, 1024), (2112, 7168), (7168, 2048), (5120, 2880),
    (2880, 4096),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimates of two kernels for each call of a table. They are not measurements.")
    parser.add_argument("--arch", choices=sorted(DEVICE), default="gfx942", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="the file to write (default: print)")
    args = parser.parse_args()
    device, bench = devices.load(DEVICE[args.arch]), Bench(args.arch)
    entries = {}
    for n, k in WEIGHTS:
        for m in ROWS:
            us, call = {}, None
            for row in ops.gemm("", m, n, k):
                try:
                    us[row.implementation] = round(estimated(bench, device, row)[2], 1)
                except (NotSupportedError, RuntimeError, TypeError, ValueError) as error:
                    print(f"{m}x{n}x{k} {row.implementation}: {str(error)[:200]}", file=sys.stderr, flush=True)
                    continue
                assert not isinstance(row.call, Call)
                call = call_of(row.call, args.arch)
            print(f"{m}x{n}x{k} {us}", file=sys.stderr, flush=True)
            if call is not None and len(us) == 2:
                entries[tuning.key(call)] = {"us": us, "call": tuning.spelled(call)}
    text = json.dumps({"version": 1, "device": DEVICE[args.arch], "apart": APART, "entries": entries}, indent=1) + "\n"
    if args.out is None:
        print(text)
    else:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
