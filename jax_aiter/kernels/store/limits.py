"""How much of a source is read at most. AITER's own files are a hundredth of it; a bomb is refused before it goes off."""

from __future__ import annotations

from jax_aiter.kernels.store.names import SourceError

#: bytes of one file; the largest that AITER has is a tenth.
FILE = 16 << 20
#: bytes of all files that are taken, eight times AITER's.
TOTAL = 1 << 30
#: entries of an archive or folder, whatever they are: forty times AITER's.
ENTRIES = 200_000
#: folders within folders; AITER's own go five deep.
DEPTH = 20
#: what a compressed archive may grow to: at most so many times its size (AITER's files shrink to a fourth), and so much in all.
RATIO, UNPACKED = 100, 16 << 30
#: bytes of an archive's own headers: a zip's directory, a tar member's long name.
HEADERS = 16 << 20


def check_size(source: object, name: str, size: int) -> None:
    if size > FILE:
        raise SourceError(f"{source}: {name} has {size} bytes; no file of AITER has more than {FILE}")


class Total:
    """Counts what is taken of one source."""

    def __init__(self, source: object) -> None:
        self._source, self._bytes, self._entries = source, 0, 0

    def entry(self) -> None:
        self._entries += 1
        if self._entries > ENTRIES:
            raise SourceError(f"{self._source} has more than {ENTRIES} entries; is it AITER?")

    def taken(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > TOTAL:
            raise SourceError(f"{self._source}: AITER's files in it have more than {TOTAL} bytes in all")
