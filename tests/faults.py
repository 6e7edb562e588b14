"""What a run makes of a provider's faults: the table. `faulted.py` runs it and prints it."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from provider import Answer, Call, Fault, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from provider import Reply

Vendor = Literal["anthropic", "responses", "chat", "google"]
Class = Literal["passed", "hard", "infra", "money"]

VENDORS: tuple[Vendor, ...] = ("anthropic", "responses", "chat", "google")

# -- what models say -----------------------------------------------------------------------------

EDIT = Call("edit_file", {"path": "calc.py", "old_text": "a - b", "new_text": "a + b"})
DONE = Call("done", {"summary": "it adds"})
MEND = Answer(calls=(EDIT, DONE))
CANNOT = Answer(calls=(Call("cannot", {"reason": "beyond me"}),))
LOOK = Answer(calls=(Call("read_file", {"path": "calc.py"}),))


def saying(call: Call) -> Answer:
    return Answer(calls=(call,))


def edited(answer: Answer, edit: Callable[[bytes], bytes]) -> Answer:
    return replace(answer, edit=edit)


# -- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A fault, and what DESIGN section 4 says of it."""

    name: str
    replies: tuple[Reply, ...]
    """To the subagent's model; the last one for ever. Main always says `cannot`."""
    ends: Class
    asks: int
    """Requests of the subagent that reach the provider."""
    words: str = ""
    """A pattern in the reason of the subagent's attempt."""
    unknown: int = 0
    """Rows of the ledger that count at their worst case, for nobody knows what was used."""
    patient: bool = False
    """Whether the back-off of whole seconds is waited for: nothing asks for less."""
    but: Mapping[Vendor, Mapping[str, Any]] = field(
        default_factory=dict["Vendor", "Mapping[str, Any]"]
    )
    """What differs for a vendor."""
    seconds: float | None = None
    """Of the attempt."""

    def at(self, vendor: Vendor) -> Case:
        """Return the case as it is for a vendor."""
        return replace(self, but={}, **self.but.get(vendor, {}))


SOON = {"retry-after-ms": "1"}
HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"


def _busy() -> Iterator[Case]:
    """Statuses of a provider that is busy or broken: tried four times, then the run ends."""
    for status in (408, 409, 425, 429, 500, 502, 503, 504, 520, 529):
        unknown = 4 if status in {408, 504} else 0
        fault = Fault(status, headers=SOON)
        yield Case(f"{status} for ever", (fault,), "infra", 4, "unavailable", unknown)
        lost = 1 if unknown else 0
        yield Case(f"{status} once", (fault, MEND), "passed", 2, unknown=lost)
    page = Fault(502, HTML, SOON)
    yield Case("502 with a page of HTML", (page,), "infra", 4, "unavailable", unknown=4)


def _refusing() -> Iterator[Case]:
    """Statuses of a provider that will not: never tried again."""
    refusals: tuple[tuple[int, Class, str], ...] = (
        (400, "hard", "request rejected"),
        (401, "infra", "authentication"),
        (402, "infra", "quota"),
        (403, "infra", "authentication"),
        (404, "infra", "unknown model"),
        (405, "hard", "request rejected"),
        (413, "hard", "request too long"),
        (422, "hard", "request rejected"),
    )
    for status, ends, words in refusals:
        yield Case(str(status), (Fault(status),), ends, 1, words)
    yield Case("401 with HTML", (Fault(401, HTML),), "infra", 1, "authentication")
    yield Case("407 of a proxy", (Fault(407, HTML),), "infra", 1, "unavailable")
    away = Fault(307, b"", {"location": "http://127.0.0.1:9/elsewhere"})
    yield Case("307 to another host", (away,), "infra", 2, "unavailable", unknown=2)


def _asking_to_wait() -> Iterator[Case]:
    """`Retry-After`, RFC 9110 section 10.2.3: waited for up to a minute."""
    for name, value in (
        ("huge", "100000000"),
        ("of 400 digits", "9" * 400),
        ("infinite", "inf"),
        ("of two minutes", "120"),
        ("dated 2100", "Fri, 01 Jan 2100 00:00:00 GMT"),
    ):
        fault = Fault(429, headers={"retry-after": value})
        yield Case(f"Retry-After {name}", (fault,), "infra", 1, "unavailable")
    yield Case("Retry-After 0", (Fault(429, headers={"retry-after": "0"}), MEND), "passed", 2)
    for name, value in (
        ("negative", "-5"),
        ("NaN", "nan"),
        ("garbage", "in a while"),
        ("empty", ""),
        ("dated 1970", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("dated year 99999", "Fri, 01 Jan 99999 00:00:00 GMT"),
        ("twice", "1, 1"),
    ):
        fault = Fault(503, headers={"retry-after": value})
        name = f"Retry-After {name}"
        yield Case(name, (fault, MEND), "passed", 2, patient=True)
    told = Fault(429, headers={"x-should-retry": "false"})
    yield Case("x-should-retry: false", (told,), "infra", 1, "unavailable")
    late = (Fault(529, headers={"retry-after": "30"}),)
    yield Case("Retry-After beyond the attempt", late, "infra", 1, "unavailable", seconds=4.0)


def _broken() -> Iterator[Case]:
    """Connections and bodies that break: the provider may have done, and may bill, the work."""
    body = {"id": "x" * 400}
    for how in ("reset", "half", "short"):
        fault = Fault(200, body, break_off=how)
        name = {"reset": "reset before the body", "half": "reset within the body"}
        name = name.get(how, "closed within the body")
        yield Case(f"{name}, once", (fault, MEND), "passed", 2, unknown=1, patient=True)
        yield Case(f"{name}, for ever", (fault,), "infra", 4, "unavailable", 4, patient=True)
    hang = Fault(break_off="hang", seconds=30)
    yield Case("no answer in time", (hang,), "hard", 1, "seconds used up", 1, seconds=4.0)
    drip = replace(MEND, drip=1.0)
    yield Case("a byte a second", (drip,), "hard", 1, "seconds used up", 1, seconds=4.0)
    quick = replace(MEND, drip=0.0002)
    yield Case("a byte at a time, in time", (quick,), "passed", 1)
    late = replace(MEND, delay=30)
    yield Case(
        "an answer after the deadline", (late,), "hard", 1, "seconds used up", 1, seconds=4.0
    )


def _unreadable() -> Iterator[Case]:
    """Answers that are no JSON: asked for once more only."""

    def twice(name: str, fault: Reply) -> Iterator[Case]:
        yield Case(f"{name}, once", (fault, MEND), "passed", 2, unknown=1, patient=True)
        case = Case(f"{name}, for ever", (fault,), "infra", 2, "unavailable", 2, patient=True)
        yield case

    yield from twice("a page of HTML", Fault(200, HTML))
    yield from twice("half JSON", edited(MEND, lambda body: body[: len(body) // 2]))
    yield from twice("an empty body", Fault(200, b""))
    yield from twice("no UTF-8", edited(MEND, lambda body: b"\xff\xfe" + body))
    yield from twice("JSON nested 100,000 deep", Fault(200, b"[" * 100_000 + b"]" * 100_000))
    flood = edited(MEND, lambda body: body + b" " * 34_000_000)
    yield from twice("34 MB", flood)
    for name in ("NaN", "Infinity", "1e999"):
        yield from twice(f"usage of {name}", replace(MEND, edit=partial(_usage_as, name.encode())))
    bomb = Fault(200, gzip.compress(b" " * 40_000_000), {"content-encoding": "gzip"})
    yield from twice("a gzip bomb", bomb)
    packed = replace(MEND, edit=gzip.compress, headers={"content-encoding": "gzip"})
    yield Case("gzip, unasked", (packed,), "passed", 1)
    yield from twice("gzip, not marked", replace(MEND, edit=gzip.compress))
    lies = replace(MEND, headers={"content-encoding": "gzip"})
    yield from twice("no gzip, marked as such", lies)


def _odd() -> Iterator[Case]:
    """JSON that is no answer, or one in a strange guise."""
    lenient = {"ends": "hard", "asks": 3, "words": "unparseable", "unknown": 3}
    odd: tuple[tuple[str, Any, dict[Vendor, Any]], ...] = (
        ("an empty object", {}, {}),
        ("a list", [], {}),
        ("a number", 7, {}),
        (
            "fields of wrong types",
            {"content": 3, "choices": "x", "output": 4, "candidates": "x"},
            # Its client takes that for an answer in which nothing is said.
            {"google": lenient},
        ),
        ("an error with status 200", {"error": {"message": "busy", "type": "overloaded"}}, {}),
    )
    for name, body, but in odd:
        fault = Fault(200, json.dumps(body).encode())
        yield Case(name, (fault,), "infra", 1, "unavailable", 1, but=but)
    html = {"content-type": "text/html"}
    yield Case("JSON called HTML", (replace(MEND, headers=html),), "passed", 1)
    twin = edited(MEND, lambda body: body.replace(b"{", b'{"id": "first", ', 1))
    yield Case("a key twice", (twin,), "passed", 1)
    null = replace(MEND, edit=partial(_usage_as, b"null"))
    no_answer = {"ends": "infra", "words": "unavailable"}
    yield Case("usage of null", (null,), "passed", 1, unknown=1, but={"chat": no_answer})
    surrogate = Answer(text="half a pair: \ud800", calls=MEND.calls)
    yield Case("a lone surrogate in the text", (surrogate,), "passed", 1)
    lone = Call("write_file", {"path": "new.txt", "content": "x \udfff y"})
    yield Case("a lone surrogate in an argument", (saying(lone), MEND), "passed", 2)
    refusal = Fault(400, {"error": {"message": "half a pair: \ud800"}})
    yield Case("a lone surrogate in an error", (refusal,), "hard", 1, "request rejected")
    nested = saying(Call("edit_file", {"path": "@", "old_text": "a", "new_text": "b"}))
    text: Mapping[Vendor, Mapping[str, Any]] = {"responses": {"unknown": 0}, "chat": {"unknown": 0}}
    for depth in (300, 990, 5000):
        # Anthropic and Google send arguments as JSON, the others as a text of their own.
        fault = replace(nested, edit=partial(_as, b"[" * depth + b"]" * depth))
        name = f"arguments nested {depth} deep"
        yield Case(name, (fault, MEND), "passed", 2, unknown=1, but=text, patient=True)
    for name, value in (("NaN", b"NaN"), ("1e999", b"1e999"), ("5,000 digits", b"7" * 5000)):
        fault = replace(nested, edit=partial(_as, value))
        name = f"an argument of {name}"
        yield Case(name, (fault, MEND), "passed", 2, unknown=1, but=text, patient=True)


def _as(value: bytes, body: bytes) -> bytes:
    return re.sub(rb'\\?"@\\?"', value, body)


def _usage_as(text: bytes, body: bytes) -> bytes:
    return re.sub(
        rb'("(?:input_tokens|prompt_tokens|promptTokenCount)": )\d+', rb"\g<1>" + text, body
    )


def _about_usage() -> Iterator[Case]:
    """Bills that are missing or cannot be true: booked at the worst case, or disputed."""
    missing = replace(MEND, tokens=None)
    # The client of Anthropic insists on it.
    no_answer = {"ends": "infra", "words": "unavailable"}
    but: Mapping[Vendor, Mapping[str, Any]] = {"anthropic": no_answer}
    yield Case("usage missing", (missing,), "passed", 1, unknown=1, but=but)
    yield Case("usage negative", (replace(MEND, tokens=Tokens(-5)),), "passed", 1, unknown=1)
    none = replace(MEND, tokens=Tokens(0, output=0))
    yield Case("usage of nothing", (none,), "passed", 1, unknown=1)
    cached = replace(MEND, tokens=Tokens(10, cache_read=500))
    yield Case("more read from the cache than sent", (cached,), "passed", 1, unknown=1)
    dear = replace(LOOK, tokens=Tokens(90_000_000))
    yield Case("usage absurd", (dear,), "money", 1, "more usage than is possible")
    vast = replace(LOOK, tokens=Tokens(10**30))
    yield Case("usage of 30 digits", (vast,), "money", 1, "more usage than is possible")
    other = replace(MEND, model="cheaper-one")
    yield Case("another model served", (other,), "infra", 1, "other model served", unknown=1)


def _about_answers() -> Iterator[Case]:
    """What models say that nobody can use."""
    yield Case("nothing said", (Answer(),), "hard", 3, "unparseable")
    yield Case("only talk", (Answer("all is well"),), "hard", 3, "unparseable")
    yield Case("refused by a filter", (Answer(refused=True),), "hard", 1, "content filter")
    yield Case("cut off at its limit", (replace(LOOK, cut=True),), "hard", 2, "unparseable")
    yield Case("cut off once", (replace(LOOK, cut=True), MEND), "passed", 2)
    yield Case("an unknown tool", (saying(Call("commit", {})),), "hard", 4, "unparseable")
    wrong = saying(Call("edit_file", {"path": ["a"], "old_text": 1}))
    yield Case("arguments of wrong types", (wrong,), "hard", 4, "unparseable")
    malformed = saying(Call("edit_file", '{"path": 7, "old'))
    yield Case("arguments that are no JSON", (malformed,), "hard", 4, "unparseable")
    big = saying(Call("write_file", {"path": "../out.txt", "content": "x" * 1_000_000}))
    yield Case("arguments of 1 MB", (big, DONE_ONLY), "hard", 2, "nothing changed")
    many = Answer(calls=tuple(Call("list", {"path": f"d{n}"}) for n in range(200)))
    yield Case("200 calls at once", (many,), "hard", 3, "turns used up")
    twins = edited(
        Answer(calls=(Call("read_file", {"path": "calc.py"}), EDIT)),
        lambda body: re.sub(rb"call_(\d+)_\d+", rb"call_\1_0", body),
    )
    yield Case("two calls with one id", (twins, DONE_ONLY), "hard", 1, "unparseable")
    same = edited(LOOK, lambda body: re.sub(rb"call_\d+_\d+", b"call_again", body))
    again = replace(MEND, edit=same.edit)
    yield Case("ids used again", (same, same, again), "passed", 3)
    nameless = edited(LOOK, lambda body: re.sub(rb"call_\d+_\d+", b"", body))
    yield Case("calls without an id", (nameless, MEND), "passed", 2)


DONE_ONLY = saying(DONE)
CASES: tuple[Case, ...] = (
    *_busy(),
    *_refusing(),
    *_asking_to_wait(),
    *_broken(),
    *_unreadable(),
    *_odd(),
    *_about_usage(),
    *_about_answers(),
)
