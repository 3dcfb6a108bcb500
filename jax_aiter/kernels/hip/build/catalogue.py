"""AITER's sources by our names: where each release keeps them, and what AITER's own build (optCompilerConfig.json) adds for each."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Unit:
    """A translation unit, from AITER's top folder. Flags that AITER gives every source are not repeated here."""

    file: str
    defines: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()


FAST = ("-ffast-math",)
FP8 = ("ENABLE_FP8",)
#: CK Tile's views load through plain pointers.
PLAIN = ("CK_TILE_USE_BUFFER_ADDRESSING_BUILTIN=0",)
ROUND = ("OPUS_FP32_to_BF16_DEFAULT=2",)

#: by name, the places where it may be, newest release first.
CATALOGUE: dict[str, tuple[Unit, ...]] = {
    "activation": (Unit("csrc/kernels/activation_kernels.cu", PLAIN, FAST),),
}
