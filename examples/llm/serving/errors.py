"""Errors as OpenAI's clients read them: a JSON object with a message, a type, the argument and a code."""

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from examples.llm.serving.engine import TooLong
from examples.llm.serving.worker import Broken, Busy


class Refused(Exception):
    """An answer that is an error, with its HTTP status."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(error: Exception) -> Refused:
    """What a request's exception means to its client."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, TooLong):
        return Refused(400, str(error), code="context_length_exceeded")
    if isinstance(error, Busy):
        return Refused(429, str(error), code="rate_limit_exceeded")
    if isinstance(error, Broken):
        return Refused(503, str(error))
    return Refused(400, str(error))


def install(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> JSONResponse:
        found = refusal(error)
        return JSONResponse(body(found.status, str(found), found.param, found.code), found.status)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse(body(400, f"{where}: {first['msg']}" if where else first["msg"], where or None), 400)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse(body(error.status_code, str(error.detail)), error.status_code, error.headers)

    handlers: dict[type[Exception], Callable] = {RequestValidationError: invalid, HTTPException: http}
    handlers |= dict.fromkeys((Refused, TooLong, Busy, Broken), refused)
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
