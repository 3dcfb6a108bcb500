"""What XLA says a compiled program needs for temporaries."""

from typing import Any


def temporary_bytes(compiled: Any) -> int:
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise RuntimeError("this backend does not tell how much memory a program needs")
    return analysis.temp_size_in_bytes
