from __future__ import annotations

import gzip
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import httpx2
import pytest
from provider import Answer, Ask, Fault, Reply, in_turn, serving

from runner.models.transport import (
    RequestLimits,
    ResponseTooLargeError,
    UnreadableError,
    paid_by,
    retry_after,
    shared_client,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
QUICK = RequestLimits(tries=3, try_seconds=0.4, total_seconds=5, first_wait=0.01, longest_wait=0.5)
BODY: dict[str, Any] = {"model": "m", "messages": []}
BUSY = {"retry-after": "0"}


class Book:
    """A gate that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.waits: list[float] = []

    async def before(self, path: str, body: bytes) -> None:
        assert path.endswith("/messages")
        assert b"messages" in body
        self.heard.append("before")

    def refused(self) -> None:
        self.heard.append("refused")

    def lost(self) -> None:
        self.heard.append("lost")

    def waiting(self, why: str, seconds: float) -> None:
        self.heard.append(why)
        self.waits.append(seconds)


async def post(url: str, limits: RequestLimits = QUICK) -> tuple[httpx2.Response, Book]:
    book = Book()
    async with shared_client(limits) as client:
        with paid_by(book):
            return await client.post(f"{url}/v1/messages", json=BODY), book


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "99999999999"}, 99999999999.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(days=9), usegmt=True)}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30"}, 30.0),
        ({"retry-after": "Sat, 99 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_a_busy_provider_is_tried_again(status: int) -> None:
    with serving(in_turn(Fault(status, headers=BUSY), Answer("hello"))) as provider:
        response, book = await post(provider.url)
    assert response.status_code == 200
    assert response.json()["content"][0]["text"] == "hello"
    assert book.heard[0] == book.heard[3] == "before"
    assert book.heard[2] == f"HTTP {status}"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
async def test_a_refusal_is_final(status: int) -> None:
    with serving(in_turn(Fault(status))) as provider:
        response, book = await post(provider.url)
    assert response.status_code == status
    assert book.heard == ["before", "refused"]


async def test_the_last_response_is_handed_on_with_its_body_and_headers() -> None:
    with serving(in_turn(Fault(429, headers={"retry-after": "0", "x-kept": "yes"}))) as provider:
        response, _ = await post(provider.url)
        assert len(provider.asks) == 3
    assert response.status_code == 429
    assert response.headers["x-kept"] == "yes"
    assert response.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        # The vendor's own error object, or a refusal: not accepted. A gateway's page: who knows.
        (Fault(500), "refused"),
        (Fault(529), "refused"),
        (Fault(429, b"<html>slow down</html>"), "refused"),
        (Fault(502, b"<html>bad gateway</html>"), "lost"),
        (Fault(500, b"[1]"), "lost"),
        (Fault(503, b""), "lost"),
        (Fault(408), "lost"),
        (Fault(504), "lost"),
        (Fault(524, {"error": {"message": "origin took too long"}}), "lost"),
        (Fault(200, b"<html>hello</html>"), "lost"),
        (Fault(200, b'{"half": '), "lost"),
        (Fault(200, b"[" * 100_000), "lost"),
    ],
)
async def test_who_was_provably_refused(fault: Fault, heard: str) -> None:
    with serving(in_turn(fault, Answer())) as provider:
        response, book = await post(provider.url)
    assert response.status_code == 200
    assert book.heard[1] == heard


async def test_an_unreadable_answer_is_asked_for_once_more_only() -> None:
    book = Book()
    with serving(in_turn(Fault(200, b"<html>"))) as provider:
        async with shared_client(QUICK) as client:
            with paid_by(book), pytest.raises(UnreadableError):
                await client.post(f"{provider.url}/v1/messages", json=BODY)
        assert len(provider.asks) == 2
    assert book.heard == ["before", "lost", "an unreadable answer", "before", "lost"]


@pytest.mark.parametrize("kind", ["reset", "half", "hang", "slow"])
async def test_a_broken_connection_is_tried_again_and_counts_as_lost(kind: Any) -> None:
    broken = Fault(200, {"x": "y" * 40}, break_off=kind, seconds=0.6 if kind == "hang" else 0.1)
    with serving(in_turn(broken, Answer("hello"))) as provider:
        response, book = await post(provider.url)
    assert response.status_code == 200
    assert book.heard[:2] == ["before", "lost"]


async def test_a_refused_connection_was_never_sent_and_is_raised_as_it_is() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        book = Book()
        async with shared_client(QUICK) as client:
            with paid_by(book), pytest.raises(httpx2.ConnectError):
                await client.post(f"{url}/v1/messages", json=BODY)
    assert book.heard.count("before") == book.heard.count("refused") == 3
    assert "lost" not in book.heard


@pytest.mark.parametrize(
    ("headers", "tries"),
    [
        ({"retry-after": "100"}, 1),  # longer than anybody waits
        ({"retry-after": "9" * 400}, 1),
        ({"x-should-retry": "false"}, 1),
        ({"retry-after": "-5"}, 3),
        ({"retry-after": "Fri, 01 Jan 2027 00:00:00 GMT"}, 1),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 3),
    ],
)
async def test_who_asks_to_wait_too_long_is_not_waited_for(
    headers: dict[str, str], tries: int
) -> None:
    with serving(in_turn(Fault(429, headers=headers))) as provider:
        response, _ = await post(provider.url)
        assert len(provider.asks) == tries
    assert response.status_code == 429


async def test_the_wait_grows_and_is_never_shorter_than_asked() -> None:
    faults = (Fault(429), Fault(429, headers={"retry-after-ms": "200"}), Answer())
    with serving(in_turn(*faults)) as provider:
        _, book = await post(provider.url)
    assert book.waits == [0.01, 0.2]


async def test_the_gate_can_keep_a_request_from_being_sent() -> None:
    class Closed(Book):
        async def before(self, path: str, body: bytes) -> None:
            raise LookupError("no money")

    with serving(in_turn(Answer())) as provider:
        async with shared_client(QUICK) as client:
            with paid_by(Closed()), pytest.raises(LookupError):
                await client.post(f"{provider.url}/v1/messages", json=BODY)
        assert provider.asks == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_packed_flood_ends_at_the_cap(stream: bool) -> None:
    packed = gzip.compress(b'{"a": "' + b"x" * 2_000_000 + b'"}')
    headers = {"content-encoding": "gzip"}
    if stream:
        headers["content-type"] = "text/event-stream"
    limits = RequestLimits(tries=1, try_seconds=5, response_bytes=100_000)
    with serving(in_turn(Fault(200, packed, headers))) as provider:
        async with shared_client(limits) as client:
            with pytest.raises(ResponseTooLargeError):
                await client.post(f"{provider.url}/v1/messages", json=BODY)
        assert provider.asks[0].headers["accept-encoding"] == "identity"


async def test_many_requests_share_one_client() -> None:
    def script(ask: Ask) -> Reply:
        return Fault(529, headers=BUSY) if ask.number % 3 == 0 else Answer()

    books = [Book() for _ in range(20)]
    with serving(script) as provider:
        async with shared_client(QUICK) as client:

            async def one(book: Book) -> None:
                with paid_by(book):
                    await client.post(f"{provider.url}/v1/messages", json=BODY)

            async with anyio.create_task_group() as tasks:
                for book in books:
                    tasks.start_soon(one, book)
        assert sum(book.heard.count("before") for book in books) == len(provider.asks)


async def test_proxy_variables_of_the_user_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(in_turn(Answer("by proxy"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        response, _ = await post("http://provider.invalid")
    assert response.json()["content"][0]["text"] == "by proxy"
