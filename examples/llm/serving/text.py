"""Tokens to text as they come: whole characters only, and nothing that may turn out to begin a text that ends the answer."""

from collections.abc import Sequence

import tokenizers

_CONTEXT = 4  # tokens before the answer that decide how it begins: whether a word of SentencePiece's starts with a space
_LONGEST = 8  # tokens that may be one character: after more of them without one, the bytes are not UTF-8


class TextStream:
    """stops: texts that end the answer. stopped: whether one has."""

    def __init__(self, codec: tokenizers.Tokenizer, prompt: Sequence[int] = (), stops: Sequence[str] = ()):
        self._codec, self._stops = codec, stops
        self._ids = list(prompt[-_CONTEXT:])
        self._given = len(self._ids)  # of _ids, those whose text has been given
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """What may be shown now that `token` is there."""
        self._ids.append(token)
        return self._filter(self._decode(len(self._ids) - self._given > _LONGEST))

    def finish(self) -> str:
        """What was held back, at the end of an answer that no text of `stops` ended. Bytes of no whole character become U+FFFD."""
        if self.stopped:
            return ""
        rest = self._filter(self._decode(True))
        rest, self._held = rest if self.stopped else rest + self._held, ""
        return rest

    def _decode(self, whole: bool) -> str:
        before = self._text(self._ids[: self._given])
        text = self._text(self._ids)
        if len(text) <= len(before) or (text.endswith("\ufffd") and not whole):
            return ""
        self._ids, self._given = self._ids[self._given :], len(self._ids) - self._given
        return text[len(before) :]

    def _text(self, ids: list[int]) -> str:
        return self._codec.decode(ids, skip_special_tokens=True)

    def _filter(self, piece: str) -> str:
        text = self._held + piece
        ends = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        cut = len(text) - held
        self._held = text[cut:]
        return text[:cut]


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of text may be the first ones of stop."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
