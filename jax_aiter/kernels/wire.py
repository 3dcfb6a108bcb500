"""The binary form of a launch plan: what travels in the executable and lies in the kernel cache.

Layout (all integers little-endian; "varint" is unsigned LEB128, at most 63 bits)::

    4  magic "JAPL"
    2  format version
    2  zero
    4  CRC-32 of the body
    ..  body:
        strings   count, then length + printable ASCII each
        op, arch  string numbers
        codes     count, then: first 8 bytes of SHA-256, raw size, codec (0 stored, 1 deflate), size, bytes
        buffers   count, then: kind byte, index, nbytes, log2(alignment) byte, name string
        aliases   count, then: operand index, result index
        steps     count, then by tag byte:
            0 Launch  code, symbol string, grid x y z, block x y z, shared bytes,
                      block length + bytes, params (count; gap, size), pointers (count; offset, buffer, byte offset)
            1 Fill    buffer, byte offset, nbytes, width byte, value
            2 Copy    dst, dst offset, src, src offset, nbytes
            3 Address buffer, byte offset, target buffer, target offset    (since version 2)

`ffi/decode.cc` reads the same. A change to this layout needs a new version number, and readers refuse versions they
do not know: executables with embedded plans outlive the library that made them. A plan is written in the lowest version
that has what it needs, so that an older library can run it too.
"""

from __future__ import annotations

import struct

from jax_aiter.kernels.args import require

MAGIC = b"JAPL"
VERSION = 2  # the newest; every version from 1 on is read
HEADER = struct.Struct("<4sHHI")
CODE_ID_BYTES = 8
STORED, DEFLATE = 0, 1
LAUNCH, FILL, COPY, ADDRESS = 0, 1, 2, 3


def varint(value: int) -> bytes:
    require(0 <= value < 2**63, f"encoded plan: {value} cannot be written, numbers are in 0 .. 2**63 - 1")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
