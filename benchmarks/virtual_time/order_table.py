"""What the estimates that come with the package change: the table in docs/choosing.md.

python -m benchmarks.virtual_time.order_table
"""

from __future__ import annotations

import collections

from benchmarks.virtual_time.open_calls import DEVICES
from jax_aiter.bind import estimated

#: AITER's order among kernels that are at hand, of what it leaves open
USUAL = {"gemm_a8w8_blockscale": ("hip", "triton")}
OTHERS = ("triton", "asm")


def rows(arch: str) -> dict[str, tuple[int, int, float]]:
    """By op: the calls that were estimated, of how many the order is another than AITER's, and from which ratio on two differ."""
    found: dict[str, list[estimated.Estimate]] = collections.defaultdict(list)
    for kind, entries in estimated.table(arch)[2].items():
        found[kind.split(" ")[1]] += [estimate for _, estimate in entries]
    return {op: (len(each), sum(e.order(usual) != usual for e in each), each[0].apart(*usual))
            for op, each in found.items() for usual in [USUAL.get(op, OTHERS)]}  # fmt: skip


def table() -> str:
    by_arch = {arch: rows(arch) for arch in DEVICES}
    out = ["| op | MI300X: calls | in another order | counts from | MI355X: calls | in another order | counts from |",
           "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for op in sorted({op for found in by_arch.values() for op in found}):
        cells = [
            f"{found[op][0]} | {found[op][1]} | {found[op][2]:.2f}" if op in found else "0 | 0 | " for found in by_arch.values()
        ]
        out.append(f"| `{op}` | {' | '.join(cells)} |")
    return "\n".join(out)


if __name__ == "__main__":
    print(table())
