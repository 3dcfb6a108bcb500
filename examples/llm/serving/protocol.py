"""OpenAI's requests, as far as they are served; what is not is refused by name instead of being passed over."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from examples.llm.serving.request import MAX_LOGPROBS, Sampling

#: Settings of OpenAI's that are accepted at the value that means "not used". Most are products of theirs.
_NEUTRAL = {
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "logit_bias": ({}, None),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": ("", None),
    "tools": ([], None),
    "tool_choice": ("none", "auto", None),
    "parallel_tool_calls": (True, False, None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
}
#: Said of a request, not of its answer.
_LABELS = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
MAX_CHOICES = 16


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False


class Ask(BaseModel):
    """What both kinds have in common. top_k, min_p, stop_token_ids and ignore_eos are vLLM's names for what OpenAI has not."""

    model_config = ConfigDict(extra="forbid")
    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for name, neutral in _NEUTRAL.items():
            if name in values and values[name] not in neutral:
                raise ValueError(f"{name} is not supported")
        return {name: value for name, value in values.items() if name not in _NEUTRAL and name not in _LABELS}

    def sampling(self, max_tokens: int) -> Sampling:
        """ValueError for what is out of range."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k, "min_p": self.min_p}
        given = {name: value for name, value in given.items() if value is not None}
        if given.get("top_k") == -1:  # vLLM's word for no limit
            given["top_k"] = 0
        return Sampling(
            max_tokens, **given, seed=self.seed, stop=tuple(stop), stop_tokens=frozenset(self.stop_token_ids or ()),
            ignore_eos=bool(self.ignore_eos), logprobs=self.wanted_logprobs,
        )  # fmt: skip

    @property
    def most(self) -> int | None:
        """Tokens of an answer; None: what the request's kind has when nothing is said."""
        return self.max_tokens

    @property
    def wanted_logprobs(self) -> int | None:
        raise NotImplementedError


class CompletionAsk(Ask):
    """prompt: a text, tokens, or a list of either."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @property
    def wanted_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return self.prompt  # type: ignore[return-value]


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """Pieces of a content are one text."""

    model_config = ConfigDict(extra="forbid")
    role: str
    content: str | list[TextPart]
    name: str | None = None

    @property
    def plain(self) -> dict[str, str]:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": content, **({"name": self.name} if self.name else {})}


class ChatAsk(Ask):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @property
    def most(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def wanted_logprobs(self) -> int | None:
        if not self.logprobs:
            if self.top_logprobs:
                raise ValueError("top_logprobs needs logprobs to be true")
            return None
        return self.top_logprobs or 0
