"""Drives `runner hook claude-code` as Claude Code does: JSON in, JSON out, and on when blocked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.cli import invoke

if TYPE_CHECKING:
    from pathlib import Path

Edit = Callable[[], object]
CAP = 8
"""Blocks in a row after which Claude Code ends the turn all the same, as documented."""


@dataclass
class Claude:
    """A session of Claude Code in a repository, whose agent does as it is scripted."""

    root: Path
    state: Path
    flags: tuple[str, ...] = ()
    session: str = "00893aaf-19fa-41d2-8238-13269b9b3ca0"
    environ: dict[str, str] = field(default_factory=dict[str, str])
    seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Every answer of the hook, in order; `{}` for none."""

    def given(self, **more: Any) -> dict[str, Any]:
        """Return the documented input of a Stop hook (code.claude.com/docs/en/hooks#stop-input)."""
        return {
            "session_id": self.session,
            "transcript_path": "~/.claude/projects/.../00893aaf-19fa-41d2-8238-13269b9b3ca0.jsonl",
            "cwd": str(self.root),
            "permission_mode": "default",
            "hook_event_name": "Stop",
            "stop_hook_active": False,
            "last_assistant_message": "I've completed the refactoring. Here's a summary...",
            "background_tasks": [
                {
                    "id": "task-001",
                    "type": "shell",
                    "status": "running",
                    "description": "tail logs",
                    "command": "tail -f /var/log/syslog",
                }
            ],
            "session_crons": [
                {
                    "id": "cron-001",
                    "schedule": "0 9 * * 1-5",
                    "recurring": True,
                    "prompt": "check the build",
                }
            ],
            **more,
        }

    def command(self, *args: str) -> list[str]:
        """Return a command line of the runner with this session's state."""
        return [sys.executable, "-m", "runner", *args]

    def env(self) -> dict[str, str]:
        """Return the hook's environment."""
        return {**os.environ, "SUBRUNNER_STATE_DIR": str(self.state), **self.environ}

    def raw(self, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        """Run the hook on any input."""
        command = self.command("hook", "claude-code", *self.flags)
        return subprocess.run(
            command, input=stdin, env=self.env(), cwd=self.root, capture_output=True, check=False
        )

    def hook(self, **more: Any) -> dict[str, Any]:
        """Run the hook and return what it answers, checked as Claude Code would."""
        done = self.raw(json.dumps(self.given(**more)).encode())
        assert done.returncode == 0, done
        assert done.stderr == b"", done
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        known = {"decision", "reason", "systemMessage", "hookSpecificOutput"}
        assert answer.keys() <= known
        assert all(len(text) <= 10_000 for text in answer.values() if isinstance(text, str))
        if "decision" in answer:
            assert answer["decision"] == "block"
            assert answer["reason"]
        self.seen.append(answer)
        return answer

    def turn(self, *edits: Edit) -> list[dict[str, Any]]:
        """Let the agent do its first edit and stop; blocked, it goes on with the next."""
        before, todo, again = len(self.seen), list(edits), False
        for _ in range(CAP):
            if todo:
                todo.pop(0)()
            if "decision" not in self.hook(stop_hook_active=again):
                break
            again = True
        return self.seen[before:]

    def prompt(self, text: str = "go on") -> str:
        """Submit a prompt and return what the agent is told beside it."""
        answer = self.hook(hook_event_name="UserPromptSubmit", prompt=text)
        return answer.get("hookSpecificOutput", {}).get("additionalContext", "")

    def start(self) -> subprocess.Popen[bytes]:
        """Start the hook with its input, and wait for nothing."""
        hook = subprocess.Popen(
            self.command("hook", "claude-code", *self.flags), env=self.env(), cwd=self.root,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert hook.stdin is not None
        hook.stdin.write(json.dumps(self.given()).encode())
        hook.stdin.close()
        hook.stdin = None
        return hook

    def allow(self, *args: str) -> int:
        """Run `runner allow`; in this process, for that is a start less in each test."""
        return invoke(["allow", *args, "-C", str(self.root), "--state-dir", str(self.state)])

    def runs(self) -> int:
        """Return how many runs were begun."""
        return len(list(self.state.glob("repos/*/runs/*")))
