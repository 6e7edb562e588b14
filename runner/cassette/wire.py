"""The two transports of a cassette: one that writes down what passes, one that is the network."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import httpx2
from typing_extensions import override

from runner.errors import ReplayError
from runner.models.transport import (
    ResponseTooLargeError,
    UnreadableError,
    caller,
    read_whole,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.cassette.names import Names
    from runner.models.transport import Caller

Json = dict[str, Any]

_KEPT = ("content-type", "retry-after-ms", "x-should-retry")
"""Headers of a response that decide something; no other is kept."""
_BROKEN: dict[str, type[httpx2.TransportError]] = {
    kind.__name__: kind
    for kind in (
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.PoolTimeout,
        httpx2.ProxyError,
        httpx2.ReadError,
        httpx2.ReadTimeout,
        httpx2.RemoteProtocolError,
        httpx2.WriteError,
        httpx2.WriteTimeout,
        ResponseTooLargeError,
        UnreadableError,
    )
}
_CUT_OFF = "ReadTimeout"


class Keeper(Protocol):
    """Takes what passed the wire."""

    def keep(self, who: Caller | None, request: Json, answer: Json) -> None:
        """Take one try of a request, and what became of it."""
        ...


class Source(Protocol):
    """Knows what was answered."""

    def answer(self, who: Caller | None, request: Json) -> Json:
        """Return the recorded answer to a try of a request.

        Raises:
            ReplayError: Something else was asked while recording.
        """
        ...


class RecordingTransport(httpx2.AsyncBaseTransport):
    """Sends over the network and keeps each try, a broken one too."""

    def __init__(
        self, network: Callable[[], httpx2.AsyncClient], cap: int, names: Names, keeper: Keeper
    ) -> None:
        self._network, self._cap = network(), cap
        self._names, self._keeper = names, keeper

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        asked = _request(request, await request.aread(), self._names)
        answer: Json = {"error": _CUT_OFF}
        try:
            response = await self._network.send(request, stream=True, follow_redirects=False)
            try:
                content = await read_whole(response, self._cap)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            answer = _answer(response, content, self._names)
        except httpx2.TransportError as error:
            kind = type(error).__name__
            answer = {"error": kind if kind in _BROKEN else "ReadError"}
            raise
        finally:
            # A try that was cut off, too: in a replay it is one that timed out.
            self._keeper.keep(caller(), asked, answer)
        left_out = {"content-encoding", "content-length", "transfer-encoding"}
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in left_out]
        return httpx2.Response(response.status_code, headers=headers, content=content)

    @override
    async def aclose(self) -> None:
        await self._network.aclose()


class ReplayingTransport(httpx2.AsyncBaseTransport):
    """Answers as it was recorded; has no way to the network."""

    def __init__(self, names: Names, source: Source) -> None:
        self._names, self._source = names, source

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        asked = _request(request, await request.aread(), self._names)
        answer: Json = self._names.back(self._source.answer(caller(), asked))
        if "error" in answer:
            kind = _BROKEN.get(str(answer["error"]), httpx2.ReadError)
            raise kind("as it was recorded", request=request)
        headers: dict[str, str] = answer.get("headers") or {}
        return httpx2.Response(answer["status"], headers=headers, content=_content(answer))


def _request(request: httpx2.Request, content: bytes, names: Names) -> Json:
    asked = {"method": request.method, "path": request.url.path}
    return names.json({**asked, **_body(content)})


def _answer(response: httpx2.Response, content: bytes, names: Names) -> Json:
    headers = {name: response.headers[name] for name in _KEPT if name in response.headers}
    # A date would be another wait on another day.
    asked = retry_after({"retry-after": response.headers.get("retry-after", "")}, datetime.now(UTC))
    if asked is not None:
        headers["retry-after"] = f"{asked:g}"
    return names.json({"status": response.status_code, "headers": headers, **_body(content)})


def _body(content: bytes) -> Json:
    """Return bytes as JSON, else as text, else as base64."""
    try:
        return {"body": json.loads(content)}
    except (ValueError, RecursionError):
        pass
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def _content(answer: Json) -> bytes:
    if "body" in answer:
        return json.dumps(answer["body"]).encode()
    if "base64" in answer:
        return base64.b64decode(str(answer["base64"]))
    return str(answer.get("text", "")).encode("utf-8", "surrogatepass")


__all__ = ["Keeper", "RecordingTransport", "ReplayError", "ReplayingTransport", "Source"]
