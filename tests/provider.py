"""A model provider on loopback for tests: Anthropic Messages, OpenAI chat and Responses, Gemini.

    def script(ask: Ask) -> Reply:
        return Answer(text="hello") if ask.number == 1 else Fault(529)

    with serving(script) as provider:
        Models(environ=provider.environ(), ...)   # or os.environ of a child process
        provider.asks                             # every request, with its parsed body

It runs in threads of its own, so it serves this process and child processes alike, streamed
(`"stream": true`) and not. `Answer` says what a model would; `Fault` breaks the connection, the
status or the bytes.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, cast

import provider_google
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    _Shape = Callable[[int, "Thought"], dict[str, Any]]

Api = Literal["anthropic", "chat", "responses", "google"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as it came over the wire."""

    number: int
    """From 1, over the whole life of the server."""
    api: Api
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    raw: bytes

    @property
    def model(self) -> str:
        """The model asked for."""
        named = provider_google.PATH.search(self.path.partition("?")[0])
        return named[1] if named else str(self.body.get("model"))

    @property
    def streamed(self) -> bool:
        """Whether the answer is to be a stream of events."""
        return bool(self.body.get("stream")) or ":stream" in self.path

    @property
    def tools(self) -> list[str]:
        """Names of the tools offered, in order."""
        if self.api == "google":
            return provider_google.tool_names(self.body)
        tools = cast("list[dict[str, Any]]", self.body.get("tools") or [])
        return [str(tool.get("name") or tool["function"]["name"]) for tool in tools]

    @property
    def text(self) -> str:
        """The whole body as text, to look for words in."""
        return self.raw.decode()


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the answer costs; `input` includes cache reads and writes, as the runner counts."""

    input: int = 100
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    """Part of `cache_write`."""
    output: int = 20


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; arguments as a text are sent as they are, however malformed."""

    tool: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Thought:
    """A thinking block (Anthropic), a reasoning item (Responses); chat has none."""

    text: str = ""
    """As shown; with an empty one an Anthropic block is a redacted one."""
    sealed: str = "c2VhbGVk"
    """Signature, or the encrypted content."""
    before: int = 0
    """Number of the call that it comes before; 0 is before all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    tokens: Tokens | None = Tokens()
    """`None` reports no usage at all."""
    model: str | None = None
    """Served model; `None` is the one asked for."""
    delay: float = 0.0
    """Seconds before the first byte."""
    refused: bool = False
    """Ended by the content filter."""
    cut: bool = False
    """Ended by the limit of its length."""
    thoughts: tuple[Thought, ...] = ()
    """Only in an answer that is not streamed."""
    usage: Mapping[str, Any] | None = None
    """Sent as it is in place of `tokens`; only in an answer that is not streamed."""
    edit: Callable[[bytes], bytes] = bytes
    """Changes the bytes of the body before they are sent; only where it is not streamed."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """More response headers, or others; only in an answer that is not streamed."""
    drip: float = 0.0
    """Seconds before each byte; only in an answer that is not streamed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A failing answer.

    Args:
        status: HTTP status; with `break_off` that of the head that is still sent.
        body: A JSON value, or bytes as they are; `None` is the vendor's own error object.
        headers: More response headers; `content-type` in place of the usual one.
        break_off: `reset`: the connection is reset before a byte is sent; `half`: in the middle of
            the body; `short`: it is closed there in good order; `hang`: nothing comes for
            `seconds`; `slow`: a byte every `seconds`.
    """

    status: int = 500
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    break_off: Literal["", "reset", "half", "short", "hang", "slow"] = ""
    seconds: float = 0.0


Reply = Answer | Fault


class Provider:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url
        """Without a path: Anthropic's base URL."""
        self.asks: list[Ask] = []
        self.errors: list[BaseException] = []
        """What the script raised; `serving` raises the first at its end."""

    @property
    def openai_url(self) -> str:
        """OpenAI's base URL."""
        return f"{self.url}/v1"

    def environ(self) -> dict[str, str]:
        """The variables that lead the vendors' clients here."""
        return {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "test-key",
            "OPENAI_BASE_URL": self.openai_url,
            "OPENAI_API_KEY": "test-key",
            "GOOGLE_GEMINI_BASE_URL": self.url,
            "GOOGLE_API_KEY": "test-key",
        }


@contextmanager
def serving(script: Callable[[Ask], Reply]) -> Generator[Provider]:
    """Serve until the block ends; the script is called in one thread at a time."""
    server = _Server(script)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.provider
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
    if server.provider.errors:
        raise server.provider.errors[0]


def in_turn(*replies: Reply) -> Callable[[Ask], Reply]:
    """A script that gives these replies one after another, and the last one for ever."""
    return lambda ask: replies[min(ask.number, len(replies)) - 1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, script: Callable[[Ask], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.provider = Provider(f"http://127.0.0.1:{self.server_address[1]}")

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away in the middle on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", "0")))
        api = _api_of(self.path.split("?")[0])
        if api is None:
            self._send(404, b'{"error": {"message": "no such path"}}', "application/json")
            return
        ask, reply = self._ask(api, raw)
        if isinstance(reply, Fault):
            self._fail(ask, reply)
        else:
            self._answer(ask, reply)

    def _ask(self, api: Api, raw: bytes) -> tuple[Ask, Reply]:
        provider = self.server.provider
        with self.server.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = cast("dict[str, Any]", json.loads(raw))
            ask = Ask(len(provider.asks) + 1, api, self.path, headers, body, raw)
            provider.asks.append(ask)
            try:
                return ask, self.server.script(ask)
            except BaseException as error:  # noqa: BLE001  kept for the test, which raises it
                provider.errors.append(error)
                return ask, Fault(400, {"error": {"message": f"script: {error!r}"}})

    def _answer(self, ask: Ask, answer: Answer) -> None:
        self.server.closing.wait(answer.delay)
        if not ask.streamed:
            whole = _WHOLE[ask.api](ask, answer)
            if answer.usage is not None:
                whole["usageMetadata" if ask.api == "google" else "usage"] = dict(answer.usage)
            body = answer.edit(json.dumps(whole).encode())
            if answer.drip:
                self._head(200, len(body), "application/json", answer.headers)
                self._drip(body, answer.drip)
            else:
                self._send(200, body, "application/json", answer.headers)
            return
        pieces = "".join(_event(name, data) for name, data in _EVENTS[ask.api](ask, answer))
        if ask.api == "chat":
            pieces += "data: [DONE]\n\n"
        self._send(200, pieces.encode(), "text/event-stream; charset=utf-8")

    def _fail(self, ask: Ask, fault: Fault) -> None:
        if fault.break_off == "reset":
            self._reset()
            return
        if fault.break_off == "hang":
            self.server.closing.wait(fault.seconds)
            self._reset()
            return
        body, kind = _fault_body(ask.api, fault)
        if not fault.break_off:
            self._send(fault.status, body, kind, fault.headers)
            return
        self._head(fault.status, len(body), kind, fault.headers)
        if fault.break_off == "slow":
            self._drip(body, fault.seconds)
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        if fault.break_off == "half":
            time.sleep(0.02)  # so that the half arrives before the reset
            self._reset()
        self.close_connection = True

    def _drip(self, body: bytes, seconds: float) -> None:
        for byte in body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.closing.wait(seconds):
                return

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # close() now sends RST
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # The handler's own files hold the socket open.
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.close_connection = True

    def _send(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._head(status, len(body), kind, headers or {})
        self.wfile.write(body)

    def _head(self, status: int, length: int, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(length))
        self.end_headers()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


def _api_of(path: str) -> Api | None:
    if path.endswith("/messages"):
        return "anthropic"
    if path.endswith("/chat/completions"):
        return "chat"
    if provider_google.PATH.search(path):
        return "google"
    return "responses" if path.endswith("/responses") else None


_ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _fault_body(api: Api, fault: Fault) -> tuple[bytes, str]:
    if isinstance(fault.body, bytes):
        page = fault.body.lstrip().startswith(b"<")
        return fault.body, "text/html" if page else "application/json"
    if fault.body is not None:
        return json.dumps(fault.body).encode(), "application/json"
    if api == "google":
        return json.dumps(provider_google.error(fault.status)).encode(), "application/json"
    message = f"status {fault.status}"
    error: dict[str, Any] = {"message": message, "type": "api_error", "code": None}
    if api == "anthropic":
        kind = _ANTHROPIC_ERRORS.get(fault.status, "api_error")
        return json.dumps(
            {"type": "error", "error": {"type": kind, "message": message}}
        ).encode(), "application/json"
    return json.dumps({"error": error}).encode(), "application/json"


def _arguments(call: Call) -> str:
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def _parsed(call: Call) -> Any:
    """Anthropic sends arguments as JSON, not as text: malformed ones stay a text."""
    return call.arguments if isinstance(call.arguments, str) else dict(call.arguments)


def _call_id(ask: Ask, number: int) -> str:
    return f"call_{ask.number}_{number}"


def _in_order(
    answer: Answer, text: list[dict[str, Any]], calls: list[dict[str, Any]], thought: _Shape
) -> list[dict[str, Any]]:
    """Thoughts, the text, then the calls, each after the thoughts that come before it."""
    made = [(thought(number, one), one.before) for number, one in enumerate(answer.thoughts)]
    content = [*(block for block, before in made if before == 0), *text]
    for number, call in enumerate(calls):
        content += [block for block, before in made if before == number > 0]
        content.append(call)
    return content


# Anthropic Messages: platform.claude.com/docs/en/api/messages, .../build-with-claude/streaming


def _anthropic_usage(tokens: Tokens) -> dict[str, Any]:
    five = tokens.cache_write - tokens.cache_write_1h
    return {
        "input_tokens": tokens.input - tokens.cache_read - tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_creation": {
            "ephemeral_5m_input_tokens": five,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h,
        },
        "output_tokens": tokens.output,
    }


def _anthropic_thought(_: int, thought: Thought) -> dict[str, Any]:
    if not thought.text:
        return {"type": "redacted_thinking", "data": thought.sealed}
    return {"type": "thinking", "thinking": thought.text, "signature": thought.sealed}


def _anthropic(ask: Ask, answer: Answer) -> dict[str, Any]:
    text: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text else []
    calls: list[dict[str, Any]] = [
        {"type": "tool_use", "id": _call_id(ask, n), "name": call.tool, "input": _parsed(call)}
        for n, call in enumerate(answer.calls)
    ]
    content = _in_order(answer, text, calls, _anthropic_thought)
    stop = "refusal" if answer.refused else "tool_use" if answer.calls else "end_turn"
    stop = "max_tokens" if answer.cut else stop
    body: dict[str, Any] = {
        "id": f"msg_{ask.number}",
        "type": "message",
        "role": "assistant",
        "model": answer.model or ask.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
    }
    if answer.tokens is not None:
        body["usage"] = _anthropic_usage(answer.tokens)
    return body


def _anthropic_events(ask: Ask, answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
    whole = _anthropic(ask, answer)
    usage = whole.get("usage", {"input_tokens": 0, "output_tokens": 0})
    start: dict[str, Any] = {
        **whole,
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 1},
    }
    yield "message_start", {"message": start}
    for index, block in enumerate(whole["content"]):
        empty: dict[str, Any] = {**block, "text": ""}
        delta = {"type": "text_delta", "text": block.get("text")}
        if block["type"] == "tool_use":
            empty = {**block, "input": {}}
            text = _arguments(answer.calls[int(block["id"].rpartition("_")[2])])
            delta = {"type": "input_json_delta", "partial_json": text}
        yield "content_block_start", {"index": index, "content_block": empty}
        yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"delta": ended, "usage": {"output_tokens": usage["output_tokens"]}}
    yield "message_stop", {}


# OpenAI chat completions: platform.openai.com/docs/api-reference/chat


def _chat_usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write,
        },
    }


def _chat_message(ask: Ask, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": _call_id(ask, n),
                "type": "function",
                "function": {"name": call.tool, "arguments": _arguments(call)},
            }
            for n, call in enumerate(answer.calls)
        ]
    return message


def _chat_frame(ask: Ask, answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{ask.number}",
        "object": kind,
        "created": 1_790_000_000,
        "model": answer.model or ask.model,
    }


def _chat_finish(answer: Answer) -> str:
    if answer.refused:
        return "content_filter"
    if answer.cut:
        return "length"
    return "tool_calls" if answer.calls else "stop"


def _chat(ask: Ask, answer: Answer) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": _chat_message(ask, answer),
        "finish_reason": _chat_finish(answer),
    }
    body = {**_chat_frame(ask, answer, "chat.completion"), "choices": [choice]}
    if answer.tokens is not None:
        body["usage"] = _chat_usage(answer.tokens)
    return body


def _chat_events(ask: Ask, answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
    frame = _chat_frame(ask, answer, "chat.completion.chunk")
    message = _chat_message(ask, answer)
    for n, call in enumerate(message.get("tool_calls", [])):
        call["index"] = n
    yield "", {**frame, "choices": [{"index": 0, "delta": message, "finish_reason": None}]}
    ended: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": _chat_finish(answer)}
    yield "", {**frame, "choices": [ended]}
    options = cast("dict[str, Any]", ask.body.get("stream_options") or {})
    if answer.tokens is not None and options.get("include_usage"):
        yield "", {**frame, "choices": [], "usage": _chat_usage(answer.tokens)}


# OpenAI Responses: platform.openai.com/docs/api-reference/responses


def _responses(ask: Ask, answer: Answer) -> dict[str, Any]:
    text: list[dict[str, Any]] = []
    if answer.text:
        part: dict[str, Any] = {"type": "output_text", "text": answer.text, "annotations": []}
        text.append(
            {
                "id": f"msg_{ask.number}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    calls: list[dict[str, Any]] = [
        {
            "id": f"fc_{ask.number}_{n}",
            "type": "function_call",
            "call_id": _call_id(ask, n),
            "name": call.tool,
            "arguments": _arguments(call),
            "status": "completed",
        }
        for n, call in enumerate(answer.calls)
    ]

    def thought(number: int, one: Thought) -> dict[str, Any]:
        summary = [{"type": "summary_text", "text": one.text}] if one.text else []
        item = {"id": f"rs_{ask.number}_{number}", "type": "reasoning", "summary": summary}
        return {**item, "encrypted_content": one.sealed}

    body: dict[str, Any] = {
        "id": f"resp_{ask.number}",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": "incomplete" if answer.refused or answer.cut else "completed",
        "model": answer.model or ask.model,
        "output": _in_order(answer, text, calls, thought),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "incomplete_details": _incomplete(answer),
    }
    if answer.tokens is not None:
        body["usage"] = _responses_usage(answer.tokens)
    return body


def _incomplete(answer: Answer) -> dict[str, str] | None:
    if answer.refused:
        return {"reason": "content_filter"}
    return {"reason": "max_output_tokens"} if answer.cut else None


def _responses_usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write,
        },
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.input + tokens.output,
    }


def _responses_events(ask: Ask, answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
    whole = _responses(ask, answer)
    number = 0
    started: dict[str, Any] = {**whole, "output": [], "status": "in_progress", "usage": None}
    yield "response.created", {"response": started, "sequence_number": number}
    for index, item in enumerate(whole["output"]):
        at: dict[str, Any] = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "message":
            empty: dict[str, Any] = {**item, "content": []}
            text = item["content"][0]["text"]
            name = "response.output_text.delta"
            delta: dict[str, Any] = {**at, "content_index": 0, "delta": text, "logprobs": []}
        else:
            empty = {**item, "arguments": ""}
            name = "response.function_call_arguments.delta"
            delta = {**at, "delta": item["arguments"]}
        steps: tuple[tuple[str, dict[str, Any]], ...] = (
            ("response.output_item.added", {"output_index": index, "item": empty}),
            (name, delta),
            ("response.output_item.done", {"output_index": index, "item": item}),
        )
        for kind, data in steps:
            number += 1
            yield kind, {**data, "sequence_number": number}
    ended = "response.incomplete" if _incomplete(answer) else "response.completed"
    yield ended, {"response": whole, "sequence_number": number + 1}


def _event(name: str, data: Mapping[str, Any]) -> str:
    if not name:
        return f"data: {json.dumps(data)}\n\n"
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"


_WHOLE: Mapping[Api, Callable[[Ask, Answer], dict[str, Any]]] = {
    "anthropic": _anthropic,
    "chat": _chat,
    "responses": _responses,
    "google": provider_google.whole,
}
_EVENTS: Mapping[Api, Callable[[Ask, Answer], Iterator[tuple[str, dict[str, Any]]]]] = {
    "anthropic": _anthropic_events,
    "chat": _chat_events,
    "responses": _responses_events,
    "google": provider_google.events,
}
