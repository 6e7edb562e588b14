"""Secrets are hidden in every form, at every cut, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
import shlex
import subprocess
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.events import Notice
from runner.workspace.masking import HIDDEN, Mask, MaskedStream

TOKEN = "ghp_x7Qf/2vK+9s~Tz'1\"$w&"
PEM = """-----BEGIN KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hZq8kq2o0n0y1p5cVd0Y6m3T1w2e4r5t6y7u8i9o0
cXdlcnR5dWlvcGFzZGZnaGprbHp4Y3Zibm0xMjM0NTY3ODkwcXdlcnR5dWlvcA==
-----END KEY-----"""


def bash(command: str, value: str) -> str:
    return subprocess.run(
        ["bash", "-c", command],
        env={"V": value, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    ).stdout.decode("utf-8", "surrogateescape")


def stream(mask: Mask, pieces: list[bytes]) -> bytes:
    masked = MaskedStream(mask)
    return b"".join([*map(masked.feed, pieces), masked.rest()])


FORMS = {
    "plain": TOKEN,
    "json": json.dumps(TOKEN),
    "json in json": json.dumps(json.dumps({"a": TOKEN})),
    "repr": repr(TOKEN),
    "html": html.escape(TOKEN),
    "url": quote(TOKEN, safe=""),
    "url, slashes kept": quote(TOKEN),
    "url, lower case": quote(TOKEN, safe="")
    .replace("%2F", "%2f")
    .replace("%2B", "%2b")
    .replace("%7E", "%7e"),
    "form": quote_plus(TOKEN),
    "shell": shlex.quote(TOKEN),
    "hex": TOKEN.encode().hex(),
    "HEX": TOKEN.encode().hex().upper(),
    "base64": base64.b64encode(TOKEN.encode()).decode(),
    "base64 of user:token": base64.b64encode(f"u:{TOKEN}".encode()).decode(),
    "base64 of xx:token, more after": base64.b64encode(f"xx:{TOKEN}@host".encode()).decode(),
    "base64, url-safe": base64.urlsafe_b64encode(b"?" + TOKEN.encode()).decode(),
    "printf %q": bash('printf %q "$V"', TOKEN),
    "set -x": bash('exec 2>&1; set -x; : "$V"', TOKEN),
    "declare -p": bash("declare -p V", TOKEN),
    "coloured": "\x1b[31m" + "\x1b[1m".join((TOKEN[:7], TOKEN[7:])) + "\x1b[0m",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_hidden_however_it_is_cut(form: str) -> None:
    mask = Mask([TOKEN])
    text = f"before {FORMS[form]} after"
    told = mask.text(text)
    assert HIDDEN in told
    assert told.startswith("before ")
    assert told.endswith(" after")
    left = told.removeprefix("before ").removesuffix(" after")
    # What may stay are the neighbours' own characters, and those that are shared with them.
    assert len(left.replace(HIDDEN, "")) <= len(FORMS[form]) - len(TOKEN) + 3
    assert not any(TOKEN[at : at + 6] in left for at in range(len(TOKEN) - 5))
    data = text.encode()
    for cut in range(len(data) + 1):
        assert stream(mask, [data[:cut], data[cut:]]).decode() == told
    assert stream(mask, [data[at : at + 1] for at in range(len(data))]).decode() == told


def test_each_line_of_a_secret_is_hidden_and_base64_that_is_wrapped() -> None:
    mask = Mask([PEM])
    for line in PEM.splitlines():
        assert mask.text(f"| {line} |") == f"| {HIDDEN} |"
    wrapped = bash('printf %s "$V" | base64', PEM)
    assert not [line for line in mask.text(wrapped).splitlines() if len(line) > 8]
    crlf = PEM.replace("\n", "\r\n")
    assert "MC4C" not in mask.text(crlf)


@pytest.mark.parametrize("value", ["", "abc", "true", "1234567"])
def test_a_short_value_hides_nothing(value: str) -> None:
    assert not Mask([value])
    assert Mask([value, TOKEN]).text(f"{value} abc true 1234567") == f"{value} abc true 1234567"


def test_what_is_no_secret_stays_to_the_byte() -> None:
    mask = Mask([TOKEN, PEM])
    text = "\x1b[31mred\x1b[0m ghp_ \ud800 \udcff BEGIN KEY é 日本"
    assert mask.text(text) == text
    assert Mask([]).text(TOKEN) == TOKEN


def test_secrets_that_touch_overlap_or_repeat_without_end() -> None:
    mask = Mask(["abcdefgh", "efghijkl", "aaaaaaaa"])
    assert mask.text("-abcdefghijkl-") == f"-{HIDDEN}-"
    assert mask.text("-abcdefghabcdefgh-") == f"-{HIDDEN}-"
    pieces = [bytes([byte]) for byte in b"-abcdefghabcdefgh-abcdefghijkl-"]
    assert stream(mask, pieces) == b"-***-***-"
    twice = b"abcdefgh".hex().encode() * 2
    assert stream(mask, [bytes([byte]) for byte in b"-" + twice + b"-"]) == b"-***-"
    masked = MaskedStream(mask)
    held = [masked.feed(b"a" * 1_000) for _ in range(200)]
    assert b"".join([*held, masked.feed(b"b-"), masked.rest()]) == b"***b-"


@given(
    st.lists(st.text("abAB+/", min_size=8, max_size=12), max_size=3),
    st.lists(st.text("abAB+/=\n\x1b[0m-é", max_size=30), max_size=8),
    st.data(),
)
@settings(max_examples=300)
def test_a_stream_tells_what_the_whole_tells(
    secrets: list[str], texts: list[str], data: st.DataObject
) -> None:
    mask = Mask(secrets)
    whole = [data.draw(st.sampled_from([text, *secrets])) for text in texts]
    encoded = "".join(whole).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=6)))
    pieces = [encoded[a:b] for a, b in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    told = stream(mask, pieces)
    assert told == stream(mask, [encoded])
    assert not any(secret.encode() in told for secret in secrets)


def test_nouns_are_masked_in_all_their_texts() -> None:
    mask = Mask([TOKEN])
    assert mask.noun(Notice(f"it is {TOKEN}", "step")) == Notice(f"it is {HIDDEN}", "step")
    deep = {"a": (TOKEN, [TOKEN, 1, None]), TOKEN: True}
    assert mask.noun(deep) == {"a": (HIDDEN, [HIDDEN, 1, None]), HIDDEN: True}
