"""Our DEFLATE decoder against zlib."""

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_aiter.kernels import _native


def inflate(packed: bytes, size: int) -> bytes:
    return _native.load().testing.inflate(packed, size)


def deflate(data: bytes, level: int = 9, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    packer = zlib.compressobj(level=level, wbits=-15, strategy=strategy)
    return packer.compress(data) + packer.flush()


def texts():
    rng = random.Random(0)
    words = [rng.randbytes(rng.randint(1, 12)) for _ in range(300)]
    yield b""
    yield b"a"
    yield b"a" * 100_000  # matches of distance 1
    yield rng.randbytes(70_000)  # incompressible: stored blocks, more than one
    yield b"".join(rng.choice(words) for _ in range(60_000))
    yield bytes(range(256)) * 300
    # Fibonacci frequencies make the longest codes, beyond the look-up table of the decoder.
    sizes = [1, 1]
    while sum(sizes) < 200_000:
        sizes.append(sizes[-1] + sizes[-2])
    skewed = [bytes([i]) * n for i, n in enumerate(sizes)]
    shuffled = bytearray(b"".join(skewed))
    rng.shuffle(shuffled)
    yield bytes(shuffled)
    yield rng.randbytes(40_000) + b"x" * 40_000 + rng.randbytes(32_768) * 2  # farthest distance


@pytest.mark.parametrize("data", list(texts()), ids=range(8))
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_unpacks_what_zlib_packs(data, level, strategy):
    assert inflate(deflate(data, level, strategy), len(data)) == data


@given(st.binary(max_size=2000), st.sampled_from([0, 1, 6, 9]))
def test_unpacks_any_bytes(data, level):
    assert inflate(deflate(data, level), len(data)) == data


@pytest.mark.parametrize("size", [99, 101])
def test_refuses_another_size(size):
    with pytest.raises(ValueError, match="not a DEFLATE stream"):
        inflate(deflate(b"x" * 100), size)


def test_refuses_trailing_bytes():
    with pytest.raises(ValueError, match="not a DEFLATE stream"):
        inflate(deflate(b"hello") + b"\0", 5)


@settings(max_examples=1000)
@given(st.data())
def test_accepts_exactly_what_zlib_accepts(data):
    packed = bytearray(deflate(b"the quick brown fox jumps over the lazy dog, the quick brown fox" * 3, 9))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    reference = zlib.decompressobj(wbits=-15)
    try:
        expected = reference.decompress(bytes(packed), 100_000)
        complete = reference.eof and not reference.unused_data
    except zlib.error:
        expected, complete = b"", False
    if complete:
        assert inflate(bytes(packed), len(expected)) == expected
    else:
        with pytest.raises(ValueError, match="not a DEFLATE stream"):
            inflate(bytes(packed), len(expected))
