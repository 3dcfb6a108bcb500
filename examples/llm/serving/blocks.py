"""The blocks of a paged cache: who holds which, which of those that nobody holds are still worth something, and what is in them."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np


def digest(before: bytes, tokens: Sequence[int]) -> bytes:
    """Names a full block: its tokens and, through the name of the block before it, all tokens in front of them.

    Cryptographic, as equal names share memory between requests of different users.
    """
    return hashlib.blake2b(before + np.asarray(tokens, "<i8").tobytes(), digest_size=32).digest()


class BlockPool:
    """Counts who holds a block. A block that nobody holds is empty, or cached: it has a name, and is found by it until it is
    needed.

    Of the cached ones the block that was given back first is taken first, and only when none is empty.
    """

    def __init__(self, count: int):
        self.count = count
        self._holders = [0] * count
        self._names: dict[int, bytes] = {}
        self._named: dict[bytes, int] = {}
        self._empty = list(range(count))[::-1]
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that `take` can give: empty and cached ones."""
        return len(self._empty) + len(self._cached)

    @property
    def cached(self) -> int:
        return len(self._cached)

    def find(self, names: Iterable[bytes]) -> list[int]:
        """The blocks of the first names, up to one that is not here. They are not held until `hold`."""
        found = []
        for name in names:
            if name not in self._named:
                break
            found.append(self._named[name])
        return found

    def is_idle(self, block: int) -> bool:
        return self._holders[block] == 0

    def hold(self, blocks: Iterable[int]) -> None:
        """One more holder for blocks that were found."""
        for block in blocks:
            self._cached.pop(block, None)
            self._holders[block] += 1

    def take(self, count: int) -> list[int]:
        """`count` blocks to write to, held once each; there must be so many free."""
        return [self._take() for _ in range(count)]

    def _take(self) -> int:
        if self._empty:
            block = self._empty.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            del self._named[self._names.pop(block)]
        self._holders[block] = 1
        return block

    def name(self, block: int, name: bytes) -> None:
        """The block is full, holds what `name` says and will not be written again. The first block of a name keeps it."""
        if name not in self._named:
            self._named[name], self._names[block] = block, name

    def forget(self, blocks: Iterable[int]) -> None:
        """What they hold is not to be found any more."""
        for block in blocks:
            if block in self._names:
                del self._named[self._names.pop(block)]

    def give_back(self, blocks: Sequence[int]) -> None:
        """One holder less for each of a request's blocks. Its last ones are the first to be taken: without them the others
        still serve.
        """
        for block in reversed(blocks):
            if self._holders[block] < 1:
                raise RuntimeError(f"block {block} is given back, but nobody holds it")
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._names:
                self._cached[block] = None
            else:
                self._empty.append(block)
