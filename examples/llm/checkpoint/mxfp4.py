"""gpt-oss's experts as OpenAI ships them: 4-bit floats (e2m1), two a byte, with a power of two for each 32."""

import numpy as np

_POSITIVE = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
VALUES = np.concatenate([_POSITIVE, -_POSITIVE])


def unpack(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """uint8 ``[..., N, K/32, 16]`` and ``[..., N, K/32]`` to float32 ``[..., N, K]``; the low half of a byte comes first."""
    pairs = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    values = VALUES[pairs] * np.exp2(scales.astype(np.float32) - 127)[..., None]
    return values.reshape(*blocks.shape[:-2], -1)
