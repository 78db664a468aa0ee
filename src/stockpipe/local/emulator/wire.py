"""ASGI in small: the types, a request's headers and body, and errors in each service's format."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = dict[str, str]
Query = dict[str, list[str]]


class Refusal(NamedTuple):
    """Why a request is not served: an AWS error code and its message."""

    code: str
    message: str


def query_of(scope: Scope) -> Query:
    return parse_qs(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)


def headers_of(scope: Scope) -> Headers:
    """By lower-case name; a header sent twice is signed as its values joined by a bare comma."""
    from ministack.core.sigv4 import decode_header_value

    found: Headers = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), decode_header_value(value)
        found[key] = f"{found[key]},{text}" if key in found else text
    return found


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None when the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that yields a body already read, then whatever follows."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def refuse(
    scope: Scope, body: bytes, refusal: Refusal, send: Send, status: int | None = None
) -> None:
    """Answer as the service called would: S3 or query XML, CBOR or JSON.

    The status is the service's own for an authentication failure unless given.
    """
    import ministack.app as app

    method, path = scope["method"], scope["path"]
    headers, query = headers_of(scope), query_of(scope)
    service = app.detect_service(
        method, path, headers, app._routing_params(method, path, headers, body, query)
    )
    own_status, out, content = app._credential_failure(
        service, "", str(uuid.uuid4()), refusal, headers
    )
    await answer(send, status or own_status, out, content, head=method == "HEAD")


async def answer(
    send: Send, status: int, headers: Mapping[str, object], body: bytes, *, head: bool = False
) -> None:
    """A whole response; of one to ``head`` the body is only counted."""
    encoded = [(name.lower().encode(), str(value).encode()) for name, value in headers.items()]
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [*encoded, length]}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if head else body})
