"""The one way to a provider: one connection pool, one retry layer, limits on time and size.

Vendor clients see ordinary responses and raise their own typed errors when tries run out: a last
failing response is handed on as it came, a last broken connection or unreadable answer is raised.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, retry_if_result
from typing_extensions import override

from runner.errors import RunnerError
from runner.frozen import frozen

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping

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
_DEEPEST = 100
"""Levels of JSON in an answer; pydantic writes 255."""


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


@frozen(kw_only=True)
class Caller:
    """On whose behalf a request is sent."""

    step: str
    attempt: int
    role: str
    model: str
    conversation: str
    main: bool
    """Whether it is of the main conversation."""


class Tape(Protocol):
    """Stands between the retry layer and the network: records what passes, or answers instead."""

    @property
    def day(self) -> datetime | None:
        """The day whose prices hold; `None` is that of each request."""
        ...

    def wire(
        self, network: Callable[[], httpx2.AsyncClient], cap: int
    ) -> httpx2.AsyncBaseTransport:
        """Return what requests go through; responses have at most *cap* bytes."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait before a request is tried again."""
        ...


_gate: ContextVar[Gate | None] = ContextVar("_gate", default=None)
_caller: ContextVar[Caller | None] = ContextVar("_caller", default=None)


@contextmanager
def paid_by(gate: Gate, who: Caller | None = None) -> Generator[None]:
    """Let `gate` decide on every request that is sent inside, on behalf of `who`."""
    token, calling = _gate.set(gate), _caller.set(who)
    try:
        yield
    finally:
        _gate.reset(token)
        _caller.reset(calling)


def caller() -> Caller | None:
    """Tell on whose behalf the request is sent that is under way; `None` where nobody said."""
    return _caller.get()


class UnreadableError(httpx2.TransportError):
    """Raised when nobody can read a response: asked for once more only, for it may be paid for."""


class ResponseTooLargeError(UnreadableError):
    """Raised when a response, unpacked, is larger than any model's answer."""


class RetryTransport(httpx2.AsyncBaseTransport):
    """Sends requests through `inner`, tries transient failures again, and tells the gate."""

    def __init__(
        self,
        inner: httpx2.AsyncClient,
        limits: RequestLimits,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._inner = inner
        self._limits = limits
        self._sleep = sleep

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        gate = _gate.get()
        retrying = AsyncRetrying(
            stop=self._stop,
            wait=self._wait,
            sleep=self._sleep,
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
        except RunnerError:
            # Kept back by a tape: nobody was asked.
            if gate is not None:
                gate.refused()
            raise
        if gate is not None and response.status_code >= 400:
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
                content = await read_whole(response, self._limits.response_bytes)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            if response.status_code < 400 and not _is_legible(content):
                # Not for vendors' clients, who read what they can in it, and differ in that.
                raise UnreadableError("the answer is no JSON that can be read and written")
            return _copy(response, content=content)
        assert scope.cancelled_caught
        raise httpx2.ReadTimeout("no complete response in time", request=request)

    def _stop(self, state: RetryCallState) -> bool:
        if state.attempt_number >= self._limits.tries:
            return True
        if _unreadable(state):
            return state.attempt_number >= 2
        response = _response(state)
        if response is None:
            return False
        asked = _asked(response)
        return response.headers.get("x-should-retry") == "false" or (
            asked is not None and asked > self._limits.longest_wait
        )

    def _wait(self, state: RetryCallState) -> float:
        response = _response(state)
        asked = None if response is None else _asked(response)
        backoff = self._limits.first_wait * 2.0 ** (state.attempt_number - 1)
        return min(self._limits.longest_wait, backoff if asked is None else max(asked, 0.0))


def shared_client(limits: RequestLimits, tape: Tape | None = None) -> httpx2.AsyncClient:
    """Open the client that all of a run's vendor clients share; honours proxy variables.

    With a *tape*, it alone decides whether the network is opened.
    """
    timeout = httpx2.Timeout(limits.try_seconds, connect=min(10.0, limits.try_seconds))

    def network() -> httpx2.AsyncClient:
        pool = httpx2.Limits(max_connections=200, max_keepalive_connections=50)
        # It reads HTTPS_PROXY and NO_PROXY: a client with a transport of its own does not.
        return httpx2.AsyncClient(timeout=timeout, limits=pool, verify=_tls())

    if tape is None:
        retrying = RetryTransport(network(), limits)
    else:
        wire = httpx2.AsyncClient(transport=tape.wire(network, limits.response_bytes))
        retrying = RetryTransport(wire, limits, tape.sleep)
    return httpx2.AsyncClient(transport=retrying, timeout=timeout)


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
    if _unreadable(state):
        why = "an unreadable answer"
    elif response is None:
        why = type(state.outcome.exception()).__name__
    else:
        why = f"HTTP {response.status_code}"
    gate.waiting(why, float(state.next_action.sleep))


def _unreadable(state: RetryCallState) -> bool:
    return state.outcome is not None and isinstance(state.outcome.exception(), UnreadableError)


def _transient(response: httpx2.Response) -> bool:
    return response.status_code in TRANSIENT


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


def _is_legible(content: bytes) -> bool:
    """Whether an answer is JSON that libraries can write again: finite, and not too deep.

    What Python alone takes for JSON (NaN, 1e999) could never be sent back.
    """
    try:
        parsed = json.loads(content, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return False
    if parsed is None or content.count(b"[") + content.count(b"{") <= _DEEPEST:
        return parsed is not None
    level: list[Any] = [parsed]
    for _ in range(_DEEPEST):
        level = [one for each in level for one in _within(each)]
        if not level:
            return True
    return False


def _within(value: Any) -> list[Any]:
    """The lists and objects right inside of a list or an object."""
    values: list[Any] = [*value.values()] if isinstance(value, dict) else [*value]
    return [one for one in values if isinstance(one, dict | list)]


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(text)
    return number


def _is_stream(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("text/event-stream")


async def read_whole(response: httpx2.Response, cap: int) -> bytes:
    """Read a response's body, unpacked, with no half of a character in it.

    Raises:
        ResponseTooLargeError: It has more than *cap* bytes.
        UnreadableError: It is not packed as it says.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in response.aiter_bytes():
            size += len(piece)
            if size > cap:
                raise ResponseTooLargeError(f"response larger than {cap} bytes")
            pieces.append(piece)
    except httpx2.DecodingError as error:
        # No `TransportError`: neither the retry layer nor every vendor's client knows it.
        raise UnreadableError(f"response cannot be unpacked: {error}") from error
    return _whole_characters(b"".join(pieces))


_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair: one character
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\xed[\xa0-\xbf][\x80-\xbf])"
    rb"|\\."
)


def _whole_characters(content: bytes) -> bytes:
    """Replace halves of characters in JSON by U+FFFD, escaped or not.

    Python's parser lets lone surrogates pass; nothing that holds one can be written down or sent.
    """
    if b"\\u" not in content and b"\xed" not in content:
        return content
    return _ESCAPES.sub(lambda found: b"\\ufffd" if found["half"] else found[0], content)


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
    """The response with its body unpacked."""
    left_out = {"content-encoding", "content-length", "transfer-encoding"}
    headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in left_out]
    extensions: dict[str, Any] = {
        key: value for key, value in response.extensions.items() if key != "network_stream"
    }
    return httpx2.Response(
        response.status_code, headers=headers, content=content, stream=stream, extensions=extensions
    )
