"""The text: the source of the Python standard library, which every machine that runs this has."""

import dataclasses
import sysconfig
from pathlib import Path

import numpy as np

# Byte 0 occurs in no source file: it separates files and pads on the left. Nobody is scored on predicting it.
SEPARATOR = 0


@dataclasses.dataclass(frozen=True)
class Corpus:
    """train: uint8, files joined (and begun) by the separator. held_out: whole files that train does not have."""

    train: np.ndarray
    held_out: tuple[bytes, ...]

    @property
    def held_out_stream(self) -> np.ndarray:
        return join(self.held_out)


def join(files) -> np.ndarray:
    return np.frombuffer(b"".join(bytes([SEPARATOR]) + f for f in files), np.uint8)


def source_files(root: Path) -> list[Path]:
    """Python files of the library itself: no installed packages, no test suites."""
    skip = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    return sorted(p for p in root.rglob("*.py") if not skip & set(p.relative_to(root).parts))


def load(held_out_bytes: int, seed: int = 0, root: Path | None = None) -> Corpus:
    """Split files at random: files go to the held-out part until it has `held_out_bytes`; the rest is for training.

    A file longer than half of `held_out_bytes` stays in training, so that the held-out part is several files.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    texts = [t for t in (p.read_bytes() for p in source_files(root)) if t and SEPARATOR not in t]
    if len(texts) < 20:
        raise ValueError(f"found {len(texts)} Python files under {root}, need at least 20 to split")
    order = np.random.default_rng(seed).permutation(len(texts))
    held_out, train, size = [], [], 0
    for index in order:
        text = texts[index]
        if size < held_out_bytes and len(text) <= held_out_bytes // 2:
            held_out.append(text)
            size += len(text)
        else:
            train.append(text)
    if not held_out:
        raise ValueError(f"no file under {root} is as short as half of the {held_out_bytes} bytes to hold out: ask for more")
    return Corpus(join(train), tuple(held_out))


def batches(train: np.ndarray, batch: int, sequence: int, seed: int):
    """Endless random windows, int32 [batch, sequence + 1]."""
    rng = np.random.default_rng(seed)
    span = np.arange(sequence + 1)
    while True:
        yield train[rng.integers(0, len(train) - sequence, batch)[:, None] + span].astype(np.int32)


def windows(stream: np.ndarray, sequence: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a stream so that every byte but the first is predicted once, with at least half a window of context where there is any.

    Returns int32 [n, sequence + 1] and the mask bool [n, sequence] of the targets that count: each once, and no separator.
    """
    stride = sequence // 2
    starts = np.arange(0, max(len(stream) - 1 - stride, 1), stride)
    padded = np.concatenate([stream, np.zeros(sequence + 1, np.uint8)])
    tokens = padded[starts[:, None] + np.arange(sequence + 1)].astype(np.int32)
    target = starts[:, None] + np.arange(1, sequence + 1)
    fresh = (np.arange(sequence) >= sequence - stride) | (starts[:, None] == 0)
    return tokens, fresh & (target < len(stream)) & (tokens[:, 1:] != SEPARATOR)
