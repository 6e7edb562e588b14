"""Runs begun, finished, failed, cancelled, killed and resumed in any order, with a user at work.

Hypothesis chooses the order; the real command runs in a real repository. A model of some lines says
what must be so after each step: read from the ledger that commands write, from git, and from disk.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from crashing import Life, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = ("one", "two", "three")
WORKFLOW = """
    steps:
      - {{ id: one, run: sh {does} one }}
      - {{ id: two, run: sh {does} two }}
      - {{ id: three, run: sh {does} three }}
      - id: commit
        commit: {{ message: "feat: made" }}
"""
DOES = """\
# Notes that it began, waits where it is told to, and ends as it is told to.
here=$(dirname "$0")
echo "$1+" >> "$here/ledger"
if [ -e "$here/stop-$1" ]; then
    rm "$here/stop-$1"
    touch "$here/at-$1"
    until [ -e "$here/go-$1" ]; do sleep 0.02; done
    rm "$here/at-$1" "$here/go-$1"
fi
if [ -e "$here/fail-$1" ]; then rm "$here/fail-$1"; exit 1; fi
if [ "$1" = one ]; then cp "$here/wanted" made.txt; fi
echo "$1-" >> "$here/ledger"
"""


class Runs(RuleBasedStateMachine):
    """One repository, one user, and one run after another."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Path(tempfile.mkdtemp(prefix="machine-")).resolve())
        self.world.workflow(WORKFLOW.format(does=self.world.file("does")))
        self.world.file("does").write_text(DOES)
        self.world.scratch.write("mine.txt", "first\n")
        self.world.scratch.write("made.txt", "nothing\n")
        self.world.scratch.commit_all()
        self.commits = self._commits()
        self.life: Life | None = None
        """The process that waits in a step."""
        self.at = ""
        self.open = False
        """Whether the newest run can be resumed."""
        self.number = 0
        self.mine = "first\n"
        self.edited = False
        """Whether the user changed something during this run: then its checks may run again."""
        self.cut_off = Counter[str]()
        self.before = 0
        """Lines of the ledger that earlier runs wrote."""

    def teardown(self) -> None:
        self.world.close()
        shutil.rmtree(self.world.where, ignore_errors=True)

    # -- what happens ------------------------------------------------------------------------------

    @precondition(lambda self: not self.life and not self.open)
    @rule(stop=st.sampled_from(("", *STEPS)))
    def start(self, stop: str) -> None:
        """Start a new run, which waits in a step, or goes to its end."""
        self.number += 1
        self.before, self.edited = len(self.world.ledger), False
        self.cut_off.clear()
        self.world.file("wanted").write_text(f"made by {self.number}\n")
        self._go(self.world.start(), stop)

    @precondition(lambda self: self.open and not self.life)
    @rule(stop=st.sampled_from(("", *STEPS)))
    def resume(self, stop: str) -> None:
        """Go on with what was killed or cancelled."""
        self._go(self.world.start_resume("--discard-external"), stop)

    @precondition(lambda self: not self.life and not self.open and self.number)
    @rule()
    def resume_what_is_over(self) -> None:
        """Be refused."""
        assert self.world.resume().code == 2

    @precondition(lambda self: self.life)
    @rule(stop=st.sampled_from(("", *STEPS)))
    def finish(self, stop: str) -> None:
        """Let the step go on."""
        self.world.go(f"go-{self.at}")
        assert self.life
        self._go(self.life, stop if STEPS.index(stop or "three") > STEPS.index(self.at) else "")

    @precondition(lambda self: self.life)
    @rule()
    def fail(self) -> None:
        """Let the step fail."""
        self.world.file(f"fail-{self.at}").touch()
        self.world.go(f"go-{self.at}")
        assert self.life
        self._ended(self.life.end().code, 1)

    @precondition(lambda self: self.life)
    @rule(number=st.sampled_from((signal.SIGINT, signal.SIGTERM)))
    def cancel(self, number: signal.Signals) -> None:
        """Interrupt it."""
        assert self.life
        self.cut_off[self.at] += 1
        self.life.process.send_signal(number)
        self._ended(self.life.end().code, 128 + number)
        self.open = True

    @precondition(lambda self: self.life)
    @rule()
    def crash(self) -> None:
        """Kill it; its command is left behind."""
        assert self.life
        self.cut_off[self.at] += 1
        self.life.kill()
        self.life, self.open = None, True

    @rule(word=st.sampled_from(("more", "other", "again")))
    def edit(self, word: str) -> None:
        """Let the user write, whatever goes on."""
        self.mine, self.edited = f"{self.mine}{word}\n", True
        self.world.scratch.write("mine.txt", self.mine)

    # -- what must be so ---------------------------------------------------------------------------

    @invariant()
    def the_users_work_is_there(self) -> None:
        assert self.world.scratch.read("mine.txt") == self.mine

    @invariant()
    def nothing_is_done_twice(self) -> None:
        began = Counter(self.world.ledger[self.before :])
        for step in STEPS:
            # The first one changes a file: before the commit it is seen to pass on that as well.
            most = 1 + (step == "one") + self.cut_off[step] + (6 if self.edited else 0)
            assert began[f"{step}+"] <= most, (began, self.cut_off)

    @invariant()
    def there_is_one_commit_for_each_run_at_most(self) -> None:
        assert self._commits() == self.commits

    # -- small parts -------------------------------------------------------------------------------

    def _go(self, life: Life, stop: str) -> None:
        """Wait until it waits in a step, or has ended."""
        for step in STEPS:
            self.world.file(f"at-{step}").unlink(missing_ok=True)
            self.world.file(f"stop-{step}").unlink(missing_ok=True)
        if stop:
            self.world.file(f"stop-{stop}").touch()
        self.life, self.open = None, False
        there = self.world.at(stop)
        life.wait_for(lambda: there() or life.process.poll() is not None)
        if stop and life.process.poll() is None:
            self.life, self.at = life, stop
        else:
            self.commits += 1
            self._ended(life.end().code, 0)

    def _ended(self, code: int, expected: int) -> None:
        assert code == expected, (code, expected)
        self.life, self.open = None, False

    def _commits(self) -> int:
        return int(self.world.scratch.git("rev-list", "--count", "HEAD"))


class TestRuns(Runs.TestCase):
    """Eight orders of up to ten things."""

    settings = settings(
        max_examples=8,
        stateful_step_count=10,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
