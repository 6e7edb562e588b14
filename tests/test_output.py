"""Tests of keeping the ends of a stream of any length."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from runner.workspace.output import KEEP, Capture

if TYPE_CHECKING:
    from pathlib import Path


async def captured(
    chunks: list[bytes], log: Path | None = None, cap: int = 0
) -> tuple[Capture, str, str, list[str]]:
    lines: list[str] = []
    read, write = os.pipe()
    os.set_blocking(read, False)
    capture = Capture(read, log=log, log_cap=cap, on_line=lines.append)
    for chunk in chunks:
        for at in range(0, len(chunk), 32_768):
            os.write(write, chunk[at : at + 32_768])
            await capture.drain(0.0)
    os.close(write)
    await capture.drain(1.0)
    head, tail = capture.finish()
    os.close(read)
    assert capture.closed
    assert capture.total == sum(map(len, chunks))
    return capture, head, tail, lines


async def test_short_output_is_all_head() -> None:
    _, head, tail, lines = await captured([b"one\ntw", b"o\n"])
    assert (head, tail) == ("one\ntwo\n", "")
    assert lines[-1] == "two"


async def test_the_middle_of_long_output_is_left_out() -> None:
    _, head, tail, _ = await captured([b"a" * KEEP, b"b" * 3 * KEEP, b"c" * KEEP])
    assert (head, tail) == ("a" * KEEP, "c" * KEEP)


async def test_head_and_tail_meet_without_gap_or_overlap() -> None:
    data = bytes(range(32, 127)) * 1000
    _, head, tail, _ = await captured([data[:KEEP], data[KEEP:]])
    assert (head + tail).encode() == data


async def test_a_character_on_the_border_is_not_broken() -> None:
    text = "x" * (KEEP - 1) + "€" + "y" * 10
    _, head, tail, _ = await captured([text.encode()])
    assert head + tail == text
    _, head, tail, _ = await captured([("x" * (KEEP - 1) + "€" * KEEP).encode()])
    assert "\ufffd" not in head + tail
    assert tail.strip("€") == ""


async def test_invalid_utf8_is_replaced() -> None:
    _, head, _, _ = await captured([b"a\xff\xfe\x80b\xe2\x82"])
    assert head == "a\ufffd\ufffd\ufffdb\ufffd"


async def test_the_log_holds_all_up_to_its_cap(tmp_path: Path) -> None:
    log = tmp_path / "log"
    capture, *_ = await captured([b"x" * 1000], log, 10_000)
    assert capture.log == log
    assert log.read_bytes() == b"x" * 1000
    await captured([b"x" * 1000, b"y" * 1000], log, 1500)
    assert log.read_bytes() == b"x" * 1000 + b"y" * 500 + b"\n[... log capped here ...]\n"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_no_output_makes_no_log(tmp_path: Path) -> None:
    capture, *_ = await captured([], tmp_path / "log", 100)
    assert capture.log is None
    assert not (tmp_path / "log").exists()


async def test_a_disk_that_fails_ends_the_log_only() -> None:
    from pathlib import Path

    _, head, _, _ = await captured([b"some ", b"text"], Path("/dev/full"), 100)
    assert head == "some text"


async def test_a_log_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "log").symlink_to("precious")
    capture, *_ = await captured([b"x"], tmp_path / "log", 100)
    assert capture.log is None
    assert (tmp_path / "precious").read_text() == "precious"


async def test_lines_are_told_rarely_and_the_last_one_always() -> None:
    *_, lines = await captured([f"line {n}\n".encode() for n in range(2000)] + [b"no newline"])
    assert lines[-1] == "no newline"
    assert len(lines) < 50


async def test_a_progress_bar_has_lines_too() -> None:
    *_, lines = await captured([b"start\r\n10%\r20%\r", b"30%\r"])
    assert lines == ["20%", "30%"]


@given(st.lists(st.binary(max_size=40_000), max_size=8))
async def test_any_bytes_keep_their_ends(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    _, head, tail, _ = await captured(chunks)
    if len(data) <= KEEP:
        assert (head, tail) == (data.decode("utf-8", "replace"), "")
    elif len(data) <= 2 * KEEP:
        assert len((head + tail).encode("utf-8", "replace")) >= len(data)
    assert len(head) <= KEEP
    assert len(tail) <= KEEP + 3
