"""OpenAI's HTTP interface to an engine."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from examples.llm.serving import errors
from examples.llm.serving.answers import Answers, ChatAnswers
from examples.llm.serving.body_limit import BodyLimit
from examples.llm.serving.engine import Engine
from examples.llm.serving.errors import Refused
from examples.llm.serving.metrics import Metrics
from examples.llm.serving.protocol import ChatAsk, CompletionAsk
from examples.llm.serving.respond import respond
from examples.llm.serving.worker import Worker

#: Of a text completion whose request does not say, as OpenAI has it. A chat goes on as long as the model and max_length allow.
COMPLETION_TOKENS = 16


def build(engine: Engine, *, name: str, api_key: str | None = None, most: int = 1024, body_bytes: int = 1 << 22) -> FastAPI:
    """The application; its engine's thread runs as long as it does.

    name: of the model. api_key: what clients must send, None: anyone is served. most: requests that run or wait at a time, more are
    answered 429. body_bytes: of a request, more is answered 413.
    """
    metrics = Metrics(engine)
    worker = Worker(engine, most=most, finished=metrics.finished)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await worker.stop()
        metrics.close()

    async def authorised(request: Request) -> None:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if api_key is not None and not secrets.compare_digest(sent, api_key.encode()):
            raise Refused(401, "the API key is missing or wrong", code="invalid_api_key")

    app = FastAPI(title="jax_aiter", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, most=body_bytes)
    app.state.worker = worker
    errors.install(app)
    tokenizer, began = engine.tokenizer, int(time.time())

    @app.get("/health")
    async def health() -> JSONResponse:
        if worker.error is not None:
            return JSONResponse({"status": "broken", "error": repr(worker.error)}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    async def prometheus() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(metrics.registry).decode(), media_type=CONTENT_TYPE_LATEST)

    v1 = APIRouter(prefix="/v1", dependencies=[Depends(authorised)])
    card = {"id": name, "object": "model", "created": began, "owned_by": "jax_aiter", "max_model_len": engine.settings.max_length}

    @v1.get("/models")
    async def models() -> dict:
        return {"object": "list", "data": [card]}

    @v1.get("/models/{model:path}")
    async def model(model: str) -> dict:
        _known(model, name)
        return card

    @v1.post("/completions")
    async def completions(ask: CompletionAsk, request: Request):
        answers = Answers(_known(ask.model, name), tokenizer)
        prompts = [await asyncio.to_thread(tokenizer.prompt, p) if isinstance(p, str) else p for p in ask.prompts]
        return await respond(worker, ask, request, answers, prompts, COMPLETION_TOKENS)

    @v1.post("/chat/completions")
    async def chat(ask: ChatAsk, request: Request):
        answers = ChatAnswers(_known(ask.model, name), tokenizer)
        try:
            prompt = await asyncio.to_thread(tokenizer.chat, [m.plain for m in ask.messages])
        except ValueError as error:
            raise Refused(400, str(error), param="messages") from error
        return await respond(worker, ask, request, answers, [prompt], None)

    app.include_router(v1)
    return app


def _known(asked: str, name: str) -> str:
    if asked != name:
        raise Refused(404, f"the model {asked!r} does not exist, {name!r} is served", param="model", code="model_not_found")
    return name
