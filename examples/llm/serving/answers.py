"""OpenAI's answers, whole and in pieces, for texts and for chats."""

import dataclasses
import time
import uuid
from collections.abc import Sequence
from typing import Any

from examples.llm.serving.request import Logprob, Request, Update
from examples.llm.tokenizer import Tokenizer

Json = dict[str, Any]


class Answers:
    """What all choices of one request have in common."""

    name = piece_name = "text_completion"
    prefix = "cmpl"

    def __init__(self, model: str, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def token(self, token: int) -> str:
        """Its text; of one that is a part of a character, which has none, its name in the vocabulary."""
        text = self.tokenizer.codec.decode([token], skip_special_tokens=False)
        return self.tokenizer.codec.id_to_token(token) or text if "\ufffd" in text else text

    def whole(self, choices: Sequence["Choice"], usage: Json) -> Json:
        return {**self.head, "object": self.name, "choices": [self.choice(i, c) for i, c in enumerate(choices)], "usage": usage}

    def piece(self, place: int, update: Update, offset: int | None) -> Json:
        """offset: characters of the choice before this piece; None: it is the choice's first."""
        new = Choice(update.text, list(update.logprobs), update.finish, offset or 0)
        return {**self.head, "object": self.name, "choices": [self.choice(place, new)]}

    def choice(self, place: int, choice: "Choice") -> Json:
        return {"index": place, "text": choice.text, "logprobs": self.logprobs(choice), "finish_reason": choice.finish}

    def logprobs(self, choice: "Choice") -> Json | None:
        if not choice.logprobs:
            return None
        tokens = [self.token(p.token) for p in choice.logprobs]
        offsets = [choice.offset]
        for token in tokens[:-1]:
            offsets.append(offsets[-1] + len(token))
        return {
            "tokens": tokens,
            "token_logprobs": [p.value for p in choice.logprobs],
            "top_logprobs": [{self.token(t): v for t, v in p.top} for p in choice.logprobs],
            "text_offset": offsets,
        }


class ChatAnswers(Answers):
    name, piece_name, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def piece(self, place: int, update: Update, offset: int | None) -> Json:
        delta = {"content": update.text} | ({"role": "assistant"} if offset is None else {})
        logprobs = self.logprobs(Choice(update.text, list(update.logprobs)))
        choice = {"index": place, "delta": delta, "logprobs": logprobs, "finish_reason": update.finish}
        return {**self.head, "object": self.piece_name, "choices": [choice]}

    def choice(self, place: int, choice: "Choice") -> Json:
        message = {"role": "assistant", "content": choice.text}
        return {"index": place, "message": message, "logprobs": self.logprobs(choice), "finish_reason": choice.finish}

    def logprobs(self, choice: "Choice") -> Json | None:
        if not choice.logprobs:
            return None

        def entry(token: int, value: float) -> Json:
            text = self.tokenizer.codec.decode([token], skip_special_tokens=False)
            return {"token": self.token(token), "logprob": value, "bytes": _bytes(text)}

        return {"content": [{**entry(p.token, p.value), "top_logprobs": [entry(*t) for t in p.top]} for p in choice.logprobs]}


def _bytes(text: str) -> list[int] | None:
    """None for a token that is a part of a character."""
    return None if "\ufffd" in text else list(text.encode())


@dataclasses.dataclass
class Choice:
    text: str = ""
    logprobs: list[Logprob] = dataclasses.field(default_factory=list)
    finish: str | None = None
    offset: int = 0

    def add(self, update: Update) -> None:
        self.text += update.text
        self.logprobs += update.logprobs
        self.finish = update.finish


def usage(requests: Sequence[Request], choices_per_prompt: int) -> Json:
    """A prompt counts once, however many answers it has."""
    firsts = requests[::choices_per_prompt]
    prompt, answer = sum(r.prompt for r in firsts), sum(r.generated for r in requests)
    details = {"cached_tokens": sum(r.reused or 0 for r in firsts)}
    return {
        "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer, "prompt_tokens_details": details,
    }  # fmt: skip
