"""What the model has to beat on the same held-out bytes: an interpolated byte trigram, and gzip -9."""

import gzip

import numpy as np

from examples.moe_lm.data import SEPARATOR

BUCKETS = 12  # contexts seen 0, 1, 2-3, 4-7, ... times have their own interpolation weights


def _counts(stream: np.ndarray) -> list[np.ndarray]:
    """Counts of bytes, byte pairs and byte triples, flat."""
    x = stream.astype(np.int64)
    pairs = x[:-1] * 256 + x[1:]
    return [
        np.bincount(x, minlength=256),
        np.bincount(pairs, minlength=1 << 16),
        np.bincount(pairs[:-1] * 256 + x[2:], minlength=1 << 24),
    ]


def _seen(table: np.ndarray, context: np.ndarray) -> np.ndarray:
    """How often each context was followed by anything."""
    return table.reshape(-1, 256).sum(1)[context]


def _predictions(counts: list[np.ndarray], stream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, 4] probabilities that the orders -1 (uniform), 0, 1, 2 give each byte, and the bucket of its longest context [n].

    Every stream begins with a separator, and its first bytes see more of them to the left.
    """
    x = np.concatenate([[SEPARATOR, SEPARATOR], stream]).astype(np.int64)
    contexts = [np.zeros(len(stream), np.int64), x[1:-1], x[:-2] * 256 + x[1:-1]]
    columns = [np.full(len(stream), 1 / 256)]
    for table, context in zip(counts, contexts, strict=True):
        columns.append(table[context * 256 + x[2:]] / np.maximum(_seen(table, context), 1))
    bucket = np.ceil(np.log2(_seen(counts[-1], contexts[-1]) + 1)).astype(int)
    return np.stack(columns, 1), np.minimum(bucket, BUCKETS - 1)


def _tune(predictions: np.ndarray, bucket: np.ndarray, rounds: int = 30) -> np.ndarray:
    """Jelinek-Mercer weights [buckets, 4] by expectation-maximisation."""
    weights = np.full((BUCKETS, 4), 0.25)
    for _ in range(rounds):
        share = weights[bucket] * predictions
        share /= share.sum(1, keepdims=True)
        total = np.stack([np.bincount(bucket, share[:, i], BUCKETS) for i in range(4)], 1) + 1e-3
        weights = total / total.sum(1, keepdims=True)
    return weights


def trigram_bits_per_byte(train: np.ndarray, held_out: np.ndarray) -> float:
    """Weights are tuned on the last tenth of the training bytes with counts from the rest; then the counts are of all of them."""
    cut = len(train) * 9 // 10
    weights = _tune(*_predictions(_counts(train[:cut]), train[cut:]))
    predictions, bucket = _predictions(_counts(train), held_out)
    scored = held_out != SEPARATOR
    return float(-np.log2((weights[bucket] * predictions).sum(1))[scored].mean())


def gzip_bits_per_byte(files: tuple[bytes, ...]) -> dict[str, float]:
    """``each``: files compressed one by one; ``joined``: as one stream, which shares what the files have in common."""
    size = sum(map(len, files))
    each = sum(len(gzip.compress(f, 9, mtime=0)) for f in files)
    return {"each": 8 * each / size, "joined": 8 * len(gzip.compress(b"".join(files), 9, mtime=0)) / size}
