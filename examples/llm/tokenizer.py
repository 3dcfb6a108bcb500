"""Text to tokens and back, and a conversation to a prompt: from ``tokenizer.json`` or from a GGUF file."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import tokenizers
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import decoders, models, pre_tokenizers, processors
from tokenizers.decoders import DecodeStream

from examples.llm.checkpoint.gguf_file import GgufFile

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: How text is split before byte pairs are merged, by ``tokenizer.ggml.pre``: a pattern, or a class of ``pre_tokenizers``.
SPLITS = {
    "gpt-2": None,
    "smollm": pre_tokenizers.Digits(individual_digits=True),
    "llama-bpe": pre_tokenizers.Split(tokenizers.Regex(_WORDS.format(digits=r"\p{N}{1,3}")), "isolated"),
    "qwen2": pre_tokenizers.Split(tokenizers.Regex(_WORDS.format(digits=r"\p{N}")), "isolated"),
}


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """codec: of the tokenizers library. template: Jinja source that turns messages into text. stops: tokens that end an answer."""

    codec: tokenizers.Tokenizer
    template: str | None
    stops: frozenset[int]
    special: dict[str, str]

    def encode(self, text: str) -> list[int]:
        return self.codec.encode(text, add_special_tokens=False).ids

    def prompt(self, text: str) -> list[int]:
        """The same, with the marks that the model wants around a text that stands for itself."""
        return self.codec.encode(text).ids

    def decode(self, tokens: Sequence[int]) -> str:
        return self.codec.decode(list(tokens), skip_special_tokens=False)

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Pieces of text as soon as they are whole characters."""
        pieces = DecodeStream(skip_special_tokens=True)
        for token in tokens:
            piece = pieces.step(self.codec, token)
            if piece is not None:
                yield piece

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The prompt that asks for the next message; ValueError if the model has no template."""
        if self.template is None:
            raise ValueError("this tokenizer has no chat template")
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        text = environment.from_string(self.template).render(messages=messages, add_generation_prompt=True, **self.special)
        return self.encode(text)


def _refuse(message: str) -> None:
    raise ValueError(f"the chat template refuses the conversation: {message}")


def from_folder(folder: str | Path) -> Tokenizer:
    """``tokenizer.json``, with ``tokenizer_config.json`` and ``generation_config.json`` where they are."""
    folder = Path(folder)
    codec = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings, generation = (_json(folder / n) for n in ("tokenizer_config.json", "generation_config.json"))
    special = {n: _text(settings[n]) for n in ("bos_token", "eos_token") if settings.get(n)}
    template = settings.get("chat_template")
    if template is None and (folder / "chat_template.jinja").exists():
        template = (folder / "chat_template.jinja").read_text()
    stops = generation.get("eos_token_id", codec.token_to_id(special.get("eos_token", "")))
    return Tokenizer(codec, template, frozenset(stops if isinstance(stops, list) else [] if stops is None else [stops]), special)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _text(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token


def from_gguf(file: GgufFile) -> Tokenizer:
    """The byte-pair tokenizer inside of a GGUF file; ValueError for another kind."""
    kind, pre = file.metadata("tokenizer.ggml.model"), file.metadata("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or pre not in SPLITS:
        raise ValueError(f"the file's tokenizer is {kind!r} with {pre!r}, must be 'gpt2' with one of {', '.join(SPLITS)}")
    tokens = file.metadata("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ", 1)) for m in file.metadata("tokenizer.ggml.merges")]
    llama3 = pre == "llama-bpe"  # takes words of the vocabulary whole, and begins texts with a mark where its file does not say
    codec = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=llama3))
    split = SPLITS[pre]
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in ("gpt-2", "smollm"))
    codec.pre_tokenizer = by_bytes if split is None else pre_tokenizers.Sequence([split, by_bytes])  # type: ignore[assignment]
    codec.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    types = file.metadata("tokenizer.ggml.token_type", [])
    codec.add_special_tokens([t for t, kind in zip(tokens, types, strict=False) if kind == gguf.TokenType.CONTROL])
    ids = {n: file.metadata(f"tokenizer.ggml.{n}_token_id") for n in ("bos", "eos")}
    special = {f"{n}_token": tokens[i] for n, i in ids.items() if i is not None}
    adds = {"bos": llama3, "eos": False}
    around = [ids[n] if file.metadata(f"tokenizer.ggml.add_{n}_token", given) else None for n, given in adds.items()]
    codec.post_processor = _marks(tokens, *around)
    return Tokenizer(codec, file.metadata("tokenizer.chat_template"), frozenset(i for i in [ids["eos"]] if i is not None), special)


def _marks(tokens: Sequence[str], first: int | None, last: int | None) -> processors.TemplateProcessing:
    """What puts these tokens before and behind a text; None: nothing."""
    before, behind = ([] if i is None else [tokens[i]] for i in (first, last))
    marks = [(tokens[i], i) for i in {first, last} if i is not None]
    return processors.TemplateProcessing(single=[*before, "$A", *behind], special_tokens=marks)
