"""Requests that are too large are refused before they are read."""

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.llm.serving import errors


class BodyLimit:
    """413 for a body of more than `most` bytes, whatever its header says of it."""

    def __init__(self, app: ASGIApp, most: int):
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # gone before it has said what it wants
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.most:
                await _refuse(send, f"the request has more than {self.most} bytes")
                return
        first: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return first.pop() if first else await receive()

        await self.app(scope, again, send)


async def _refuse(send: Send, message: str) -> None:
    text = json.dumps(errors.body(413, message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": text})
