"""The one way to a provider: one connection pool, one retry layer, limits on time and size.

Vendor clients see ordinary responses and raise their own typed errors when tries run out: a last
failing response is handed on as it came, a last broken connection is raised as it was.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, retry_if_result
from typing_extensions import override

from runner.frozen import frozen

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Generator, Mapping

TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Statuses worth another try: the provider is busy or broken, not the request."""
_OUT_OF_TIME = frozenset({408, 504, 524})
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.ProxyError,
)
_GARBLED = "x-runner-garbled"


@frozen
class RequestLimits:
    """How long and how often one request may be tried; seconds."""

    tries: int = 4
    try_seconds: float = 300.0
    """For one try, until the response is complete (for a stream: between two pieces)."""
    total_seconds: float = 900.0
    """For all tries and the waiting between them."""
    first_wait: float = 1.0
    """Doubles with each try."""
    longest_wait: float = 60.0
    """A provider that asks to wait longer is not waited for: the run can be resumed later."""
    response_bytes: int = 32 * 1024 * 1024


class Gate(Protocol):
    """Whoever pays for a request; told of each try."""

    async def before(self, path: str, body: bytes) -> None:
        """A try is about to be sent; raises to keep it from being sent."""
        ...

    def refused(self) -> None:
        """The last try was provably not accepted."""
        ...

    def lost(self) -> None:
        """Nobody can say what became of the last try."""
        ...

    def waiting(self, why: str, seconds: float) -> None:
        """The next try comes in so many seconds."""
        ...


_gate: ContextVar[Gate | None] = ContextVar("_gate", default=None)


@contextmanager
def paid_by(gate: Gate) -> Generator[None]:
    """Let `gate` decide on every request that is sent inside."""
    token = _gate.set(gate)
    try:
        yield
    finally:
        _gate.reset(token)


class ResponseTooLargeError(httpx2.TransportError):
    """Raised when a response, unpacked, is larger than any model's answer."""


class RetryTransport(httpx2.AsyncBaseTransport):
    """Sends requests through `inner`, tries transient failures again, and tells the gate."""

    def __init__(self, inner: httpx2.AsyncClient, limits: RequestLimits) -> None:
        self._inner = inner
        self._limits = limits

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        gate = _gate.get()
        retrying = AsyncRetrying(
            stop=self._stop,
            wait=self._wait,
            sleep=anyio.sleep,
            retry=retry_if_result(_transient) | retry_if_exception_type(httpx2.TransportError),
            before_sleep=lambda state: _announce(gate, state),
            # The last failure as it came: vendor clients make their typed errors of it.
            retry_error_callback=lambda state: _last(state),
        )
        response: httpx2.Response = await retrying(self._try, request, gate)
        return response

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _try(self, request: httpx2.Request, gate: Gate | None) -> httpx2.Response:
        """Send once. Whatever ends it, the gate hears whether the provider may have accepted it."""
        if gate is not None:
            await gate.before(request.url.path, await request.aread())
        try:
            response = await self._send(request)
        except _NEVER_SENT:
            if gate is not None:
                gate.refused()
            raise
        except httpx2.TransportError:
            if gate is not None:
                gate.lost()
            raise
        if gate is not None and (response.status_code >= 400 or _garbled(response)):
            gate.refused() if _provably_refused(response) else gate.lost()
        return response

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        """Send once and read the response, unless it is a stream of events."""
        # A packed response could unfold to gigabytes; models' answers are small.
        request.headers["accept-encoding"] = "identity"
        with anyio.move_on_after(self._limits.try_seconds) as scope:
            response = await self._inner.send(request, stream=True, follow_redirects=False)
            if response.status_code < 400 and _is_stream(response):
                body = _Capped(response, self._limits.response_bytes)
                return _copy(response, stream=body)
            try:
                content = await _read(response, self._limits.response_bytes)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            return _copy(response, content=content)
        assert scope.cancelled_caught
        raise httpx2.ReadTimeout("no complete response in time", request=request)

    def _stop(self, state: RetryCallState) -> bool:
        if state.attempt_number >= self._limits.tries:
            return True
        response = _response(state)
        if response is None:
            return False
        if _garbled(response):
            return state.attempt_number >= 2
        asked = _asked(response)
        return response.headers.get("x-should-retry") == "false" or (
            asked is not None and asked > self._limits.longest_wait
        )

    def _wait(self, state: RetryCallState) -> float:
        response = _response(state)
        asked = None if response is None else _asked(response)
        backoff = self._limits.first_wait * 2.0 ** (state.attempt_number - 1)
        return min(self._limits.longest_wait, backoff if asked is None else max(asked, 0.0))


def shared_client(limits: RequestLimits) -> httpx2.AsyncClient:
    """Open the client that all of a run's vendor clients share; honours proxy variables."""
    timeout = httpx2.Timeout(limits.try_seconds, connect=min(10.0, limits.try_seconds))
    pool = httpx2.Limits(max_connections=200, max_keepalive_connections=50)
    # The inner one reads HTTPS_PROXY and NO_PROXY: a client with a transport of its own does not.
    inner = httpx2.AsyncClient(timeout=timeout, limits=pool, verify=_tls())
    return httpx2.AsyncClient(transport=RetryTransport(inner, limits), timeout=timeout)


@cache
def _tls() -> ssl.SSLContext:
    """The certificates to trust; reading them takes 0.1 seconds, so once in a process."""
    return httpx2.create_ssl_context()


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read how many seconds a provider asks to wait; `None` when it does not, or not sensibly.

    `retry-after-ms`, else `Retry-After` as seconds or as a date (RFC 9110, section 10.2.3). A
    negative number and a date in the past ask for nothing.
    """
    text = headers.get("retry-after-ms", "")
    scale = 0.001
    if not text:
        text, scale = headers.get("retry-after", ""), 1.0
    try:
        seconds = float(text) * scale
    except ValueError:
        return _until(text, now)
    # Written so that NaN, too, is nothing sensible.
    return seconds if seconds >= 0 else None


def retry_info(content: bytes) -> float | None:
    """Read the seconds that Google asks to wait in the body of an error; `None` when it does not.

    `google.rpc.RetryInfo` among the details of the error, which comes without a header:
    github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto.
    """
    try:
        details: list[Any] = json.loads(content)["error"]["details"]
        asked = next(str(one["retryDelay"]) for one in details if "retryDelay" in one)
        seconds = float(asked.removesuffix("s"))
    except (ValueError, TypeError, LookupError, StopIteration, RecursionError):
        return None
    return seconds if seconds >= 0 else None


def _until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - now).total_seconds()
    return seconds if seconds >= 0 else None


def _asked(response: httpx2.Response) -> float | None:
    asked = retry_after(response.headers, datetime.now(UTC))
    if asked is None and response.status_code in {429, 503}:
        asked = retry_info(response.content)
    return asked


def _response(state: RetryCallState) -> httpx2.Response | None:
    outcome = state.outcome
    if outcome is None or outcome.failed:
        return None
    return cast("httpx2.Response", outcome.result())


def _last(state: RetryCallState) -> httpx2.Response:
    assert state.outcome is not None
    return cast("httpx2.Response", state.outcome.result())


def _announce(gate: Gate | None, state: RetryCallState) -> None:
    if gate is None or state.next_action is None or state.outcome is None:
        return
    response = _response(state)
    if response is None:
        why = type(state.outcome.exception()).__name__
    elif _garbled(response):
        why = "an unreadable answer"
    else:
        why = f"HTTP {response.status_code}"
    gate.waiting(why, float(state.next_action.sleep))


def _transient(response: httpx2.Response) -> bool:
    return response.status_code in TRANSIENT or _garbled(response)


def _garbled(response: httpx2.Response) -> bool:
    return bool(response.extensions.get(_GARBLED))


def _provably_refused(response: httpx2.Response) -> bool:
    """Whether an error answer rules out that the provider did, and bills, the work.

    A 4xx is a refusal. A 5xx is one when it is the provider's own (a JSON object with `error`), not
    a gateway's page: behind a gateway the work may have been done. Who ran out of time had begun.
    """
    status = response.status_code
    if status < 400 or status in _OUT_OF_TIME:
        return False
    if status < 500:
        return True
    parsed = _json(response.content)
    return isinstance(parsed, dict) and "error" in parsed


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _is_stream(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("text/event-stream")


async def _read(response: httpx2.Response, cap: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > cap:
            raise ResponseTooLargeError(f"response larger than {cap} bytes")
        pieces.append(piece)
    return b"".join(pieces)


class _Capped(httpx2.AsyncByteStream):
    """A stream of events, unpacked, that ends in an error beyond its cap."""

    def __init__(self, response: httpx2.Response, cap: int) -> None:
        self._response = response
        self._cap = cap

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._response.aiter_bytes():
            size += len(piece)
            if size > self._cap:
                raise ResponseTooLargeError(f"stream larger than {self._cap} bytes")
            yield piece

    @override
    async def aclose(self) -> None:
        await self._response.aclose()


def _copy(
    response: httpx2.Response,
    *,
    content: bytes | None = None,
    stream: httpx2.AsyncByteStream | None = None,
) -> httpx2.Response:
    """The response with its body unpacked, marked when it should be JSON and is not."""
    left_out = {"content-encoding", "content-length", "transfer-encoding"}
    headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in left_out]
    extensions: dict[str, Any] = {
        key: value for key, value in response.extensions.items() if key != "network_stream"
    }
    if content is not None and response.status_code < 400 and _json(content) is None:
        extensions[_GARBLED] = True
    return httpx2.Response(
        response.status_code, headers=headers, content=content, stream=stream, extensions=extensions
    )
