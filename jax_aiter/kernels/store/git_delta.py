"""Git's differences between objects: copy this span of the other object, insert these bytes."""

from __future__ import annotations

from collections.abc import Callable


def applied(difference: bytes, base: bytes, spend: Callable[[int], None]) -> bytes:
    """`base` changed by `difference`. `spend` is told the result's size before it is made; ValueError or IndexError at damage."""
    before, at = _number(difference, 0)
    after, at = _number(difference, at)
    if before != len(base):
        raise ValueError("a difference to an object of another size")
    spend(after)
    parts, missing = [], after
    while at < len(difference):
        code = difference[at]
        at += 1
        if code & 128:
            span, where = 0, 0
            for bit in range(7):
                if code >> bit & 1:
                    if bit < 4:
                        where |= difference[at] << 8 * bit
                    else:
                        span |= difference[at] << 8 * (bit - 4)
                    at += 1
            part = base[where : where + (span or 1 << 16)]
            if len(part) != (span or 1 << 16):
                raise ValueError("a difference copies what is not there")
        else:
            part, at = difference[at : at + code], at + code
            if not code or at > len(difference):
                raise ValueError("a difference is cut off")
        missing -= len(part)
        if missing < 0:
            break
        parts.append(part)
    if missing:
        raise ValueError("a difference gives another size than it says")
    return b"".join(parts)


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if not byte & 128:
            return value, at
        if shift > 63:
            raise ValueError("a difference of an impossible size")
