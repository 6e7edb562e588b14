"""Makes session logs of both formats, reads them with `runner measure`, prints speed and memory.

    python benchmarks/measure_logs.py --megabytes 1000 --keep DIR

The logs are invented: sessions of edits, chores and prompts, with what real logs have in them:
several records of one response, side-chains, compactions, copies, broken and huge lines.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO
from uuid import UUID

CHORES = (
    "ruff format . && ruff check .",
    "pytest -q",
    "pytest -q 2>&1 | tail -20",
    "npm run lint",
    "cargo test",
    "mypy src",
    "git status",
    "git add -A && git commit -m \"$(cat <<'EOF'\nMend it\nEOF\n)\"",
    "git push",
)
OTHER = ("cat src/parser.py", "grep -rn token src", "ls -la", "python scripts/try.py")
START = datetime(2026, 10, 1, 8, tzinfo=UTC)
HUGE = 12_000_000


class Clock:
    """Time that goes on by chance: seconds between records, now and then a pause."""

    def __init__(self, chance: random.Random, start: datetime) -> None:
        self.chance = chance
        self.now = start

    def stamp(self) -> str:
        """Return the next record's time."""
        pause = self.chance.random()
        mean = 5_400 if pause > 0.992 else 500 if pause > 0.98 else 6
        self.now += timedelta(seconds=self.chance.expovariate(1 / mean))
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Session:
    """What both formats tell of a session: its turns and their tokens."""

    def __init__(self, chance: random.Random, words: str) -> None:
        self.chance = chance
        self.words = words
        self.clock = Clock(chance, START + timedelta(hours=chance.random() * 1_000))
        self.id = str(UUID(int=chance.getrandbits(128), version=4))
        self.context = 14_000 + chance.randrange(8_000)
        self.cached = 0
        self.chores_left = 0
        self.last = self.clock.now

    def text(self, size: int) -> str:
        """Return filler of so many characters."""
        at = self.chance.randrange(len(self.words))
        return (self.words[at:] + self.words * (size // len(self.words) + 1))[:size]

    def next_command(self) -> tuple[str, bool]:
        """Return a turn's command and whether it is a chore; chores come in runs."""
        if not self.chores_left and self.chance.random() < 0.22:
            self.chores_left = 1 + int(self.chance.expovariate(0.6))
        if self.chores_left:
            self.chores_left -= 1
            return self.chance.choice(CHORES), True
        return self.chance.choice(OTHER), False

    def used(self, kept: float) -> tuple[int, int, int]:
        """Return a request's read, new and output tokens, its cache lost after *kept* seconds."""
        lost = (self.clock.now - self.last).total_seconds() > kept or self.chance.random() < 0.004
        read = 0 if lost else self.cached
        new, output = self.context - read, 60 + int(self.chance.expovariate(1 / 250))
        self.cached, self.last = self.context, self.clock.now
        self.context += output + 200 + int(self.chance.expovariate(1 / 900))
        return read, new, output

    def compact(self) -> bool:
        """Begin anew when the context is full."""
        if self.context < 165_000:
            return False
        self.context, self.cached = 22_000, 14_000
        return True


def claude(file: TextIO, session: Session, turns: int) -> None:
    """Write a session as Claude Code does."""
    chance = session.chance
    common: dict[str, Any] = {"sessionId": session.id, "version": "2.1.260", "cwd": "/home/me/app"}
    common |= {"isSidechain": False, "userType": "external", "gitBranch": "main"}

    def put(kind: str, **more: Any) -> None:
        stamp = {"timestamp": session.clock.stamp(), "uuid": f"{chance.getrandbits(64):016x}"}
        file.write(json.dumps({**common, "type": kind, **more, **stamp}) + "\n")

    put("user", message={"role": "user", "content": session.text(400)})
    for turn in range(turns):
        if session.compact():
            put("system", subtype="compact_boundary", content="Conversation compacted")
        command, _ = session.next_command()
        read, new, output = session.used(300)
        call = f"toolu_{chance.getrandbits(64):016x}"
        usage = {"input_tokens": 4, "cache_creation_input_tokens": new, "output_tokens": output}
        usage |= {"cache_read_input_tokens": read, "service_tier": "standard"}
        usage |= {"cache_creation": {"ephemeral_5m_input_tokens": new}}
        named = {"id": f"msg_{chance.getrandbits(64):016x}", "model": "claude-opus-5-5"}
        request = f"req_{chance.getrandbits(64):016x}"
        tool = {"type": "tool_use", "id": call, "name": "Bash", "input": {"command": command}}
        if chance.random() < 0.3:
            tool |= {"name": "Edit", "input": {"new_string": session.text(1_500)}}
        for block in ({"type": "thinking", "thinking": session.text(600)}, tool):
            message = {**named, "role": "assistant", "content": [block], "usage": usage}
            put("assistant", message=message, requestId=request)
        failed = chance.random() < 0.2
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": call, "is_error": failed}
        result["content"] = session.text(int(chance.expovariate(1 / 4_000)))
        message = {"role": "user", "content": [result]}
        put("user", message=message, toolUseResult={"stdout": result["content"]})
        if turn % 9 == 0:
            put("progress", data={"type": "bash_progress", "output": session.text(300)})
        if chance.random() < 0.0005:
            picture = {"type": "image", "source": {"data": "A" * HUGE}}
            put("user", message={"role": "user", "content": [picture]})
    if chance.random() < 0.1:
        file.write('{"type":"assistant","message":{"id":"msg_cut')


def codex(file: TextIO, session: Session, turns: int) -> None:
    """Write a session as Codex does."""
    chance, ordinal = session.chance, 0
    total: dict[str, int] = {"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}

    def put(kind: str, **payload: Any) -> None:
        nonlocal ordinal
        record = {"timestamp": session.clock.stamp(), "ordinal": ordinal, "type": kind}
        file.write(json.dumps({**record, "payload": payload}) + "\n")
        ordinal += 1

    put("session_meta", id=session.id, cwd="/home/me/app", model_provider="openai")
    put("turn_context", model="gpt-6.1-sol", effort="high")
    for _ in range(turns):
        if session.compact():
            put("compacted", message=session.text(2_000))
        command, _ = session.next_command()
        read, new, output = session.used(1_800)
        call = f"call_{chance.getrandbits(64):016x}"
        put("response_item", type="reasoning", encrypted_content=session.text(1_200))
        arguments = json.dumps({"cmd": command, "workdir": "/home/me/app"})
        put("response_item", type="function_call", name="exec_command", arguments=arguments,
            call_id=call)  # fmt: skip
        usage = {"input_tokens": read + new, "cached_input_tokens": read, "output_tokens": output}
        total = {name: total[name] + count for name, count in usage.items()}
        info = {"total_token_usage": total, "last_token_usage": {**usage, "total_tokens": 0}}
        put("event_msg", type="token_count", info=info, rate_limits=None)
        if chance.random() < 0.3:
            put("event_msg", type="token_count", info=info, rate_limits={"primary": None})
        code = int(chance.random() < 0.2)
        head = f"Chunk ID: 1\nWall time: 0.1 seconds\nProcess exited with code {code}\nOutput:\n"
        body = session.text(int(chance.expovariate(1 / 4_000)))
        put("response_item", type="function_call_output", call_id=call, output=head + body)


def generate(place: Path, megabytes: int, seed: int) -> int:
    """Write so many megabytes of logs below a directory, the same for the same seed; tell bytes."""
    chance = random.Random(seed)  # noqa: S311  invented logs need no secret
    words = " ".join(
        f"{chance.choice('abcdefgh')}{chance.getrandbits(20):x}" for _ in range(20_000)
    )
    size = 0
    while size < megabytes * 1_000_000:
        session = Session(chance, words)
        turns = 5 + int(chance.expovariate(1 / 120))
        if chance.random() < 0.65:
            path = place / "claude" / "projects" / "-home-me-app" / f"{session.id}.jsonl"
            write = claude
        else:
            day = session.clock.now
            folder = place / "codex" / "sessions" / f"{day:%Y/%m/%d}"
            path = folder / f"rollout-{day:%Y-%m-%dT%H-%M-%S}-{session.id}.jsonl"
            write = codex
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            write(file, session, turns)
        size += path.stat().st_size
    return size


def main() -> None:
    """Make logs, read them, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write the logs there and leave them")
    asked = parser.parse_args()
    with TemporaryDirectory() as scratch:
        place = asked.keep or Path(scratch)
        size = generate(place, asked.megabytes, asked.seed)
        began = time.monotonic()
        command = [sys.executable, "-m", "runner", "measure", "--json", str(place)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ)
        seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak_mb = peak / (1_000_000 if sys.platform == "darwin" else 1_000)
    turns = json.loads(done.stdout)["turns"]["all"]
    print(
        f"{size / 1e6:,.0f} MB, {turns:,} turns, {seconds:.1f} s, {size / 1e6 / seconds:.0f} MB/s"
    )
    print(f"peak memory {peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
