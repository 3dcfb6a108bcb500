"""From a checked request to its answer: whole, or as events while it is made; a client that goes takes its requests with it."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Coroutine
from typing import TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from examples.llm.serving import errors
from examples.llm.serving.answers import Answers, Choice, usage
from examples.llm.serving.errors import Refused
from examples.llm.serving.protocol import Ask
from examples.llm.serving.request import Sampling
from examples.llm.serving.worker import Stream, Worker

T = TypeVar("T")
GONE = 499  # nginx's status for a client that did not wait; nobody reads it


async def respond(
    worker: Worker, ask: Ask, request: Request, answers: Answers, prompts: list[list[int]], default: int | None
) -> Response:
    """default: tokens of an answer whose request does not say; None: as many as fit."""
    copies = ask.n or 1
    if not prompts:
        raise Refused(400, "there is no prompt", param="prompt")
    longest = worker.engine.settings.max_length
    try:
        asked = [ask.sampling(ask.most or default or max(1, longest - len(p))) for p in prompts]
        stream = worker.submit(
            [prompt for prompt in prompts for _ in range(copies)], [_choice(one, i) for one in asked for i in range(copies)]
        )
    except ValueError as error:
        raise errors.refusal(error) from error
    if ask.stream:
        return Events(stream, answers, copies, ask.stream_options is not None and ask.stream_options.include_usage)
    try:
        choices = await unless_gone(request.receive, _collect(stream))
    finally:
        stream.close()
    if choices is None:
        return Response(status_code=GONE)
    return JSONResponse(answers.whole(choices, usage(stream.requests, copies)))


def _choice(sampling: Sampling, place: int) -> Sampling:
    """Of several answers to a prompt; with one seed they would all be the same."""
    return sampling if sampling.seed is None else dataclasses.replace(sampling, seed=(sampling.seed + place) % (1 << 64))


async def _collect(stream: Stream) -> list[Choice]:
    choices = [Choice() for _ in stream.requests]
    async for place, update in stream:
        choices[place].add(update)
    return choices


async def unless_gone(receive: Receive, work: Coroutine[None, None, T]) -> T | None:
    """What `work` gives, or None: the client left before."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Events(StreamingResponse):
    """Server-sent events, one for each piece of text."""

    def __init__(self, stream: Stream, answers: Answers, copies: int, with_usage: bool):
        super().__init__(_events(stream, answers, copies, with_usage), media_type="text/event-stream")
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self.stream_response(send))
        finally:
            self._stream.close()


async def _events(stream: Stream, answers: Answers, copies: int, with_usage: bool) -> AsyncIterator[str]:
    lengths: dict[int, int] = {}
    try:
        async for place, update in stream:
            if update.text or update.logprobs or update.finish or place not in lengths:
                yield _event(answers.piece(place, update, lengths.get(place)))
                lengths[place] = lengths.get(place, 0) + len(update.text)
    except Exception as error:  # the status has been sent: the error comes as an event
        refused = errors.refusal(error)
        yield _event(errors.body(refused.status, str(refused), code=refused.code))
        return
    if with_usage:
        yield _event({**answers.head, "object": answers.piece_name, "choices": [], "usage": usage(stream.requests, copies)})
    yield "data: [DONE]\n\n"


def _event(value: dict) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
