"""Runs that are killed with SIGKILL, for real, and resumed: compared with what nobody killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from crashing import Ended, World
from provider import Answer, Ask, Call, Fault, Reply, serving
from scratch import CALC, Scratch, with_remote

from runner.journal import Journal
from runner.lease import network_file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BROKEN = CALC.replace("a + b", "a - b")
MODELS = (
    "--model=cheap=anthropic:claude-haiku-4-5",
    "--model=main=anthropic:claude-opus-4-5",
    "--policy=ladder",
)


def more(points: str) -> list[Any]:
    """Return points to be killed at, before and after, that not every run of the tests needs."""
    both = ((point, when) for point in points.split() for when in ("before", "after"))
    return [pytest.param(*one, marks=pytest.mark.slow) for one in both]


@pytest.fixture
def here(world: Path) -> Iterator[World]:
    place = World(world)
    yield place
    place.close()


# -- commands --------------------------------------------------------------------------------------


def test_what_is_finished_is_not_run_again(here: World) -> None:
    here.workflow(f"""
        steps:
          - id: one
            run: {here.note("one")}; echo '{{"n":"7"}}' > "$SUBRUNNER_OUTPUT"
            outputs: {{ n: string }}
          - id: two
            run: {here.note("two")}; {here.hold()}
          - id: three
            env: {{ N: "${{{{ steps.one.outputs.n }}}}" }}
            run: echo three-$N >> {here.file("ledger")}
        """)
    here.start().wait_for(here.at()).kill()
    here.go()
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.ledger == ["one", "two", "two", "three-7"]
    assert told.status() == dict.fromkeys(("one", "two", "three"), "succeeded")
    assert told.report["steps"][0]["outputs"] == {"n": "7"}
    assert told.report["run_id"] == here.events(1)[0]["run_id"]
    (resumed,) = here.of("run_resumed")
    assert (resumed["life"], resumed["external"]) == (2, [])
    assert json.loads(here.runner("show", "--json", "last")) == told.report


def test_a_run_can_be_killed_again_and_again(here: World) -> None:
    steps = "".join(
        f'- {{ id: s{n}, run: "{here.note(f"s{n}")}; {here.hold(f"go{n}")}" }}\n' + " " * 10
        for n in range(3)
    )
    here.workflow(f"""
        steps:
          {steps}
        """)
    here.start().wait_for(here.at("go0")).kill()
    for n in range(2):
        here.go(f"go{n}")
        here.start_resume().wait_for(here.at(f"go{n + 1}")).kill()
    here.go("go2")
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.ledger == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert here.of("run_resumed")[0]["life"] == 4


def test_commands_that_outlived_the_kill_are_ended_first(here: World) -> None:
    here.workflow(f"""
        steps:
          - id: slow
            run: {here.hold()}; {here.note("orphan-or-not")}
        """)
    here.start().wait_for(here.at()).kill()
    here.file("at-go").unlink()
    second = here.start_resume().wait_for(here.at())
    here.go()
    told = second.end()
    assert told.code == 0, told.stderr
    # The first one waited for the same, and was ended: only the second gets to its end.
    assert here.ledger == ["orphan-or-not"]


def test_an_autofix_cut_off_is_put_back_and_done_again(here: World) -> None:
    here.scratch.write("log.txt", "first\n")
    here.scratch.commit_all()
    here.workflow(f"""
        steps:
          - id: fix
            run: grep -q last log.txt
            autofix: echo more >> log.txt; {here.hold()}; echo last >> log.txt
          - id: commit
            commit: {{ message: "fix: log" }}
        """)
    here.start().wait_for(here.at()).kill()
    assert here.scratch.read("log.txt") == "first\nmore\n"
    here.go()
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.scratch.read("log.txt") == "first\nmore\nlast\n"
    assert here.scratch.git("show", "HEAD:log.txt") == "first\nmore\nlast"
    assert [one["paths"] for one in here.of("restored")] == [["log.txt"]]


def test_what_a_command_cut_off_has_made_is_committed_like_the_rest(here: World) -> None:
    here.workflow(f"""
        steps:
          - id: make
            run: test -e made.txt || {{ echo made > made.txt; {here.hold()}; }}
          - id: commit
            commit: {{ message: "feat: made" }}
        """)
    here.start().wait_for(here.at()).kill()
    here.go()
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.scratch.git("show", "HEAD:made.txt") == "made"
    assert here.scratch.git("status", "--porcelain") == ""


# -- steps that may not be safe to repeat ----------------------------------------------------------

DEPLOY = """
    secrets: [TOKEN]
    steps:
      - id: deploy
        secrets: [TOKEN]
        run: {note}; {hold}
      - id: after
        run: {after}
"""


def deploy(here: World) -> dict[str, str]:
    text = DEPLOY.format(note=here.note("deploy"), hold=here.hold(), after=here.note("after"))
    here.workflow(text)
    environ = {"TOKEN": "hunter22hunter22"}
    here.start("--secret", "TOKEN", environ=environ).wait_for(here.at()).kill()
    return environ


def test_a_command_that_may_not_be_repeated_stops_the_resume(here: World) -> None:
    environ = deploy(here)
    refused = here.resume(environ=environ)
    assert refused.code == 2
    assert "'deploy'" in refused.stderr
    assert "--done deploy" in refused.stderr
    assert "--again deploy" in refused.stderr
    assert here.ledger == ["deploy"]
    wrong = here.resume("--again", "after", environ=environ)
    assert wrong.code == 2
    assert "deploy" in wrong.stderr


def test_it_is_repeated_on_demand(here: World) -> None:
    environ = deploy(here)
    here.go()
    told = here.resume("--again", "deploy", environ=environ)
    assert told.code == 0, told.stderr
    assert here.ledger == ["deploy", "deploy", "after"]


def test_it_is_taken_for_done_on_demand(here: World) -> None:
    environ = deploy(here)
    told = here.resume("--done", "deploy", environ=environ)
    assert told.code == 0, told.stderr
    assert here.ledger == ["deploy", "after"]
    assert told.status() == {"deploy": "succeeded", "after": "succeeded"}
    assert not told.report["steps"][0]["verified"]


def test_secrets_are_given_anew_and_kept_nowhere(here: World) -> None:
    environ = deploy(here)
    refused = here.resume("--done", "deploy")
    assert refused.code == 2
    assert "TOKEN" in refused.stderr
    kept = [p for p in here.file("state").rglob("*") if p.is_file()]
    assert kept
    assert not [p for p in kept if environ["TOKEN"].encode() in p.read_bytes()]


# -- models ----------------------------------------------------------------------------------------

MEND = """
    name: mend
    steps:
      - id: test
        run: {judge}
        fix: {{ agent: fixer, attempts: 2 }}
      - id: commit
        commit: {{ message: "fix: add" }}
"""
EDIT = Call(
    "edit_file", {"path": "calc.py", "old_text": "return a - b", "new_text": "return a + b"}
)


def done(ask: Ask) -> Answer:
    tool = next(name for name in ask.tools if "Done" in name or "done" in name)
    return Answer(calls=(Call(tool, {"summary": "mended"}),))


def mender(hold_at: int) -> Callable[[Ask], Reply]:
    """Edit, then say done; the request of that number is never answered."""

    def script(ask: Ask) -> Reply:
        if ask.number == hold_at:
            return Fault(break_off="hang", seconds=30)
        edited = '"tool_result"' in ask.text or "return a + b" in ask.text
        return done(ask) if edited else Answer(calls=(EDIT,))

    return script


JUDGE = "grep -q 'a + b' calc.py"


def broken(here: World, judge: str = JUDGE) -> None:
    here.scratch.write("calc.py", BROKEN)
    here.scratch.write("notes.txt", "mine\n")
    here.scratch.commit_all("broken")
    here.workflow(MEND.format(judge=judge))


def test_a_mend_goes_on_from_its_last_settled_call(here: World) -> None:
    broken(here)
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        assert here.scratch.read("calc.py") == CALC
        here.scratch.write("notes.txt", "mine, edited meanwhile\n")
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        # The edit was answered and settled: it is not asked for again.
        assert len(provider.asks) == 3
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()
    assert here.scratch.read("notes.txt") == "mine, edited meanwhile\n"
    assert here.scratch.git("status", "--porcelain") == "M notes.txt"
    assert here.of("run_resumed")[0]["external"] == ["notes.txt"]
    (step, _) = told.report["steps"]
    assert [(a["rung"], a["verdict"]) for a in step["attempts"]] == [
        ("command", "hard"),
        ("subagent", "passed"),
    ]


def test_what_others_changed_is_in_the_way_of_a_mend(here: World) -> None:
    broken(here)
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        here.scratch.write("calc.py", "# mine\n")
        refused = here.resume(environ=environ)
        assert refused.code == 2
        assert "calc.py" in refused.stderr
        assert "--discard-external" in refused.stderr
        assert here.scratch.read("calc.py") == "# mine\n"
        assert "killed" in here.runner("runs")
        told = here.resume("--discard-external", environ=environ)
        assert told.code == 0, told.stderr
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()
    (snapshot,) = [s for s in here.of("snapshot_taken") if s["label"] == "resumed"]
    assert snapshot["tree"]
    assert told.report["cost_usd"] is not None


def test_killed_while_the_mend_is_judged(here: World) -> None:
    broken(here, judge=f"{JUDGE} || exit 1; {here.note('judged')}; {here.hold()}")
    with serving(mender(hold_at=0)) as provider:
        environ = provider.environ()
        here.start(*MODELS, environ=environ).wait_for(here.at()).kill()
        here.scratch.write("notes.txt", "mine, edited meanwhile\n")
        here.go()
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 2
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()
    assert here.scratch.read("notes.txt") == "mine, edited meanwhile\n"


def test_killed_before_the_first_answer(here: World) -> None:
    broken(here)
    with serving(mender(hold_at=1)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 1).kill()
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()


def test_a_mend_that_fails_after_a_resume_is_undone(here: World) -> None:
    broken(here, judge="test -e never")
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        here.scratch.write("notes.txt", "mine, edited meanwhile\n")
        told = here.resume(environ=environ)
        assert told.code == 1, told.stderr
    assert here.scratch.read("calc.py") == BROKEN
    assert here.scratch.read("notes.txt") == "mine, edited meanwhile\n"
    assert told.status() == {"test": "failed", "commit": "blocked"}


def test_interrupted_by_a_signal_it_goes_on(here: World) -> None:
    broken(here)
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2)
        life.process.send_signal(signal.SIGINT)
        first = life.end()
        assert first.code == 130
        assert here.scratch.read("calc.py") == BROKEN
        assert "runner resume" in first.stderr
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 3
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()


def test_a_provider_that_failed_is_asked_again(here: World) -> None:
    broken(here)
    down = True

    def script(ask: Ask) -> Reply:
        if down:
            return Fault(401)
        return mender(hold_at=0)(ask)

    with serving(script) as provider:
        environ = provider.environ()
        first = here.start(*MODELS, environ=environ).end()
        assert first.code == 6, first.stderr
        assert "runner resume" in first.stderr
        down = False
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        tried = told.report["steps"][0]["attempts"]
        assert [one["verdict"] for one in tried] == ["hard", "passed"]
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()


# -- git -------------------------------------------------------------------------------------------

SHIP = """
    steps:
      - id: test
        run: "true"
      - id: commit
        commit: {{ message: "fix: add" }}
      - id: push
        push: {{ remote: origin, branch: out }}
      - id: last
        run: {last}
"""


def shipping(here: World) -> Path:
    remote = with_remote(here.scratch)
    here.scratch.write("calc.py", CALC + "# more\n")
    here.workflow(SHIP.format(last=here.note("last")))
    return remote


def assert_shipped(here: World, remote: Path) -> None:
    head = here.scratch.git("rev-parse", "HEAD")
    assert here.scratch.git("rev-list", "--count", "HEAD") == "2"
    assert here.scratch.git("ls-remote", str(remote), "refs/heads/out").split()[0] == head
    assert here.scratch.git("status", "--porcelain") == ""
    assert not list((here.root / ".git").glob("*.lock*"))
    assert here.ledger[-1] == "last"


# All points of commits and pushes, and kills at each of them: tests/crashes.py.
@pytest.mark.parametrize(
    ("what", "when"),
    [
        ("replace:repo/.git/index", "before"),
        ("write:git_fact", "before"),
        *more("write:git_intent write:git_fact write:step_finished replace:repo/.git/index"),
    ],
)
def test_a_commit_is_made_once(here: World, what: str, when: str) -> None:
    remote = shipping(here)
    nth = 2 if what == "write:step_finished" else 1
    here.arm(f"{what}:{when}:{nth}")
    here.start().killed()
    here.arm("")
    told = here.resume()
    assert told.code == 0, told.stderr
    assert_shipped(here, remote)
    assert told.status()["commit"] == "succeeded"
    assert told.status()["push"] == "succeeded"


@pytest.mark.parametrize(
    ("what", "when"),
    [("write:git_fact", "before"), *more("write:git_intent write:git_fact write:step_finished")],
)
def test_a_push_is_made_once(here: World, what: str, when: str) -> None:
    remote = shipping(here)
    hook = remote / "hooks/pre-receive"
    hook.write_text(f"#!/bin/sh\n{here.note('push')}\n")
    hook.chmod(0o755)
    nth = 3 if what == "write:step_finished" else 2
    here.arm(f"{what}:{when}:{nth}")
    here.start().killed()
    here.arm("")
    told = here.resume()
    assert told.code == 0, told.stderr
    assert_shipped(here, remote)
    assert here.ledger.count("push") == 1
    assert told.status()["push"] == "succeeded"


def test_killed_while_the_remote_takes_the_push(here: World) -> None:
    remote = shipping(here)
    hook = remote / "hooks/post-receive"
    hook.write_text(f"#!/bin/sh\n{here.note('push')}\nkill -9 $(cat {here.file('pid')})\n")
    hook.chmod(0o755)
    life = here.start()
    here.file("pid").write_text(str(life.process.pid))
    life.killed()
    told = here.resume()
    assert told.code == 0, told.stderr
    assert_shipped(here, remote)
    assert here.ledger == ["push", "last"]


def test_killed_in_a_hook(here: World) -> None:
    remote = shipping(here)
    hook = here.root / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/bash\n{here.hold()}\n")
    hook.chmod(0o755)
    here.start().wait_for(here.at()).kill()
    here.go()
    told = here.resume()
    assert told.code == 0, told.stderr
    assert_shipped(here, remote)


def test_a_lock_of_somebody_elses_stays(here: World) -> None:
    shipping(here)
    here.arm("replace:repo/.git/index:before:1")
    here.start().killed()
    here.arm("")
    lock = here.root / ".git/index.lock"
    lock.unlink()
    lock.write_text("another git")
    told = here.resume()
    assert lock.read_text() == "another git"
    assert told.code in {0, 1}


# -- jobs of a commit or push ----------------------------------------------------------------------

HOOKED = """
    name: hooked
    steps:
      - id: test
        run: "true"
        fix: { agent: fixer }
      - id: commit
        commit: { message: "fix: add" }
"""
NO_MINUS = "grep -q 'a - b' calc.py && { echo 'calc.py:2: error: minus'; exit 1; }"


def verdicts(told: Ended, step: str) -> list[tuple[str, str]]:
    (found,) = [one for one in told.report["steps"] if one["id"] == step]
    return [(one["rung"], one["verdict"]) for one in found["attempts"]]


def hooked(here: World, name: str, text: str) -> None:
    hook = here.root / f".git/hooks/{name}"
    hook.write_text(f"#!/bin/bash\n{text}\n")
    hook.chmod(0o755)


def failing_hook(here: World) -> None:
    here.scratch.write("calc.py", BROKEN)
    here.scratch.write("notes.txt", "mine\n")
    here.scratch.commit_all("broken")
    here.scratch.write("calc.py", BROKEN + "# more\n")
    here.workflow(HOOKED)
    hooked(here, "pre-commit", f"{here.note('hook')}; {NO_MINUS}; exit 0")


def test_a_mend_of_a_hook_goes_on(here: World) -> None:
    failing_hook(here)
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        here.scratch.write("notes.txt", "mine, edited meanwhile\n")
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 3
    assert here.scratch.git("show", "HEAD:calc.py") == CALC + "# more"
    assert here.scratch.git("status", "--porcelain") == "M notes.txt"
    assert verdicts(told, "commit")[:2] == [("command", "hard"), ("subagent", "passed")]
    assert "Runner-Mended: calc.py" in here.scratch.git("log", "-1", "--format=%B")
    asked = [one for one in here.of("attempt_started", 1) if one["role"]]
    assert [(one["job"], one["number"]) for one in asked] == [("commit:pre-commit", 2)]


def test_a_mend_of_a_hook_that_is_gone_is_undone(here: World) -> None:
    failing_hook(here)
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        assert here.scratch.read("calc.py") == CALC + "# more\n"
        (here.root / ".git/hooks/pre-commit").unlink()
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
    assert here.scratch.git("show", "HEAD:calc.py") == BROKEN + "# more"


def test_what_a_hook_changed_out_of_scope_stays_out_of_the_commit(here: World) -> None:
    here.scratch.write(".github/workflows/ci.yml", "a: 1\n")
    here.scratch.commit_all("ci")
    here.scratch.write("calc.py", CALC + "# more\n")
    here.workflow(HOOKED)
    hooked(here, "pre-commit", "echo 'b: 2' > .github/workflows/ci.yml; echo '# new' >> calc.py")
    # Its attempt is over and nobody has looked yet at what it changed; then in the next round.
    here.arm("write:attempt_finished:after:2")
    here.start().killed()
    hooked(here, "pre-commit", "true")
    here.start_resume().killed()
    here.arm("")
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.scratch.git("show", "--name-only", "--format=", "HEAD") == "calc.py"
    assert here.scratch.git("status", "--porcelain") == "M .github/workflows/ci.yml"


def test_a_mend_of_a_stale_check_goes_on(here: World) -> None:
    here.scratch.write("calc.py", CALC + "# more\n")
    here.workflow(f"""
        name: stale
        steps:
          - id: test
            run: "{here.note("test")}; {NO_MINUS.replace(chr(34), "")}; exit 0"
            fix: {{ agent: fixer }}
          - id: break
            run: mkdir {here.file("broken")} && sed -i 's/a + b/a - b/' calc.py || true
          - id: commit
            needs: [test, break]
            commit: {{ message: "fix: add" }}
        """)
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, "-j", "1", environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 3
    assert here.scratch.git("show", "HEAD:calc.py") == CALC + "# more"
    assert verdicts(told, "commit")[:2] == [("command", "hard"), ("subagent", "passed")]


def conflicting(here: World) -> Path:
    here.scratch.write("notes.txt", "mine\n")
    here.scratch.commit_all("sound")
    remote = with_remote(here.scratch)
    other = Scratch(here.where / "other")
    here.scratch.git("clone", "-q", str(remote), str(other.root))
    other.write("calc.py", CALC.replace("a + b", "b + a"))
    other.write("theirs.txt", "theirs\n")
    other.commit_all("theirs")
    other.git("push", "-q")
    here.scratch.write("calc.py", CALC.replace("a + b", "a + b + 0"))
    here.workflow(f"""
        name: conflict
        steps:
          - id: test
            run: {here.note("test")}
            fix: {{ agent: fixer }}
          - id: commit
            commit: {{ message: "mine" }}
          - id: push
            push: {{ branch: main }}
        """)
    return remote


WHOLE = CALC.replace("a + b", "b + a + 0")


def resolver(hold_at: int) -> Callable[[Ask], Reply]:
    def script(ask: Ask) -> Reply:
        if ask.number == hold_at:
            return Fault(break_off="hang", seconds=30)
        if '"tool_result"' in ask.text:
            return done(ask)
        return Answer(calls=(Call("write_file", {"path": "calc.py", "content": WHOLE}),))

    return script


def assert_rebased(here: World, remote: Path) -> None:
    head = here.scratch.git("rev-parse", "HEAD")
    assert here.scratch.git("ls-remote", str(remote), "refs/heads/main").split()[0] == head
    assert here.scratch.git("show", "HEAD:calc.py") == WHOLE.strip()
    assert here.scratch.git("log", "--format=%s").splitlines()[:2] == ["mine", "theirs"]
    assert here.scratch.read("theirs.txt") == "theirs\n"


def test_a_mend_of_a_conflict_goes_on(here: World) -> None:
    remote = conflicting(here)
    with serving(resolver(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        here.scratch.write("notes.txt", "mine, edited meanwhile\n")
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 3
    assert_rebased(here, remote)
    assert here.scratch.git("status", "--porcelain") == "M notes.txt"
    # The check stood on the tree before the rebase.
    assert here.ledger == ["test", "test"]


@pytest.mark.parametrize(
    "crash",
    [
        pytest.param("write:with conflict markers:after:1", marks=pytest.mark.slow),
        pytest.param("write:attempt_finished:after:3", marks=pytest.mark.slow),
        "replace:repo/.git/index:before:2",
        pytest.param("replace:repo/.git/index:after:2", marks=pytest.mark.slow),
        pytest.param('write:"rebased":after:1', marks=pytest.mark.slow),
    ],
)
def test_killed_around_a_conflict(here: World, crash: str) -> None:
    remote = conflicting(here)
    with serving(resolver(hold_at=0)) as provider:
        environ = provider.environ()
        here.arm(crash)
        here.start(*MODELS, environ=environ).killed()
        here.arm("")
        here.scratch.write("notes.txt", "mine, edited meanwhile\n")
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 2
    assert_rebased(here, remote)
    assert here.scratch.read("notes.txt") == "mine, edited meanwhile\n"
    assert here.ledger == ["test", "test"]


def test_a_commit_made_and_not_told_of_survives_a_second_kill(here: World) -> None:
    remote = shipping(here)
    here.workflow(
        SHIP.replace("commit: {{", "if: git.dirty\n        commit: {{").format(
            last=here.note("last")
        )
    )
    here.arm("write:git_fact:before:1")
    here.start().killed()
    here.arm("write:git_fact:before:1")
    here.start_resume().killed()
    here.arm("")
    told = here.resume()
    assert told.code == 0, told.stderr
    assert_shipped(here, remote)
    assert told.status()["commit"] == "succeeded"


# -- money, messages, secrets ----------------------------------------------------------------------


def test_a_run_out_of_money_goes_on_with_more(here: World) -> None:
    broken(here)
    with serving(mender(hold_at=0)) as provider:
        environ = provider.environ()
        first = here.start(*MODELS, "--budget", "0.0001", environ=environ).end()
        assert first.code == 3, first.stderr
        assert "--budget" in first.stderr
        refused = here.resume(environ=environ)
        assert refused.code == 2
        assert "--budget USD" in refused.stderr
        told = here.resume("--budget", "1", environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 2
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()


def test_a_run_out_of_tokens_goes_on_with_a_higher_ceiling(here: World) -> None:
    broken(here)
    config = here.file("config.yaml")
    config.write_text("ceilings: { tokens: 500 }\n")
    with serving(mender(hold_at=0)) as provider:
        environ = {**provider.environ(), "SUBRUNNER_CONFIG": str(config)}
        assert here.start(*MODELS, environ=environ).end().code == 3
        refused = here.resume(environ=environ)
        assert refused.code == 2
        assert "ceilings.tokens" in refused.stderr
        config.write_text("ceilings: { tokens: 500000 }\n")
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr


def wording(message: str) -> Callable[[Ask], Reply]:
    def script(ask: Ask) -> Reply:
        tool = next(name for name in ask.tools if "Done" in name or "done" in name)
        return Answer(calls=(Call(tool, {"summary": "said", "outputs": {"message": message}}),))

    return script


AGENT = """
    name: worded
    steps:
      - id: commit
        commit: { message: auto, agent: commit-writer }
"""


@pytest.mark.parametrize(
    "crash",
    [
        pytest.param("write:attempt_finished:before:1", marks=pytest.mark.slow),
        "write:attempt_finished:after:1",
        pytest.param("write:git_intent:before:1", marks=pytest.mark.slow),
        "replace:repo/.git/index:before:1",
    ],
)
def test_a_message_that_an_agent_wrote_is_not_paid_twice(here: World, crash: str) -> None:
    here.scratch.write("calc.py", CALC + "# more\n")
    here.workflow(AGENT)
    with serving(wording("feat: say more")) as provider:
        environ = provider.environ()
        here.arm(crash)
        here.start(*MODELS, environ=environ).killed()
        here.arm("")
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 1
    assert here.scratch.git("log", "-1", "--format=%s") == "feat: say more"
    assert here.scratch.git("rev-list", "--count", "HEAD") == "2"
    assert verdicts(told, "commit") == [("subagent", "passed")]


def test_a_message_is_not_paid_twice_though_a_hook_was_cut_off_after_it(here: World) -> None:
    here.scratch.write("calc.py", CALC + "# more\n")
    hook = here.root / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/sh\n{here.note('hook')}\n")
    hook.chmod(0o755)
    here.workflow(AGENT)
    with serving(wording("feat: say more")) as provider:
        environ = provider.environ()
        here.arm("write:attempt_finished:before:2")  # answered, and not written down as such
        here.start(*MODELS, environ=environ).killed()
        here.arm("write:attempt_started:after:1")  # in the hook, which is run again first
        here.start_resume(environ=environ).killed()
        here.arm("")
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 1
    assert here.scratch.git("log", "-1", "--format=%s") == "feat: say more"


TOKEN = "hunter22hunter22"


def test_no_secret_leaves_its_step_by_outputs(here: World) -> None:
    here.scratch.write("calc.py", CALC + "# more\n")
    here.workflow(f"""
        secrets: [TOKEN]
        steps:
          - id: tell
            secrets: [TOKEN]
            run: printf '{{"about":"%s"}}' "$TOKEN" > "$SUBRUNNER_OUTPUT"; {here.note("tell")}
            outputs: {{ about: string }}
          - id: commit
            needs: [tell]
            commit: {{ message: "feat: ${{{{ steps.tell.outputs.about }}}}" }}
        """)
    environ = {"TOKEN": TOKEN}
    here.arm("write:step_finished:before:1")
    here.start("--secret", "TOKEN", environ=environ).killed()
    here.arm("")
    told = here.resume(environ=environ)
    assert told.code == 1, told.stderr
    files = (file for file in (here.where / "state").rglob("*") if file.is_file())
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]
    # Neither the value nor stars in its place.
    assert here.scratch.git("log", "-1", "--format=%s") == "start"


def test_an_input_that_holds_a_secret_rules_a_resume_out(here: World) -> None:
    here.workflow(f"""
        secrets: [TOKEN]
        inputs:
          what: {{ type: string }}
        steps:
          - id: one
            secrets: [TOKEN]
            run: {here.hold()}
        """)
    environ = {"TOKEN": TOKEN}
    life = here.start("--secret", "TOKEN", "-i", f"what={TOKEN}", environ=environ)
    life.wait_for(here.at()).kill()
    refused = here.resume("--again", "one", environ=environ)
    assert refused.code == 2
    assert "an input or option held a secret, which is written down nowhere" in refused.stderr
    assert "runner exec" in refused.stderr


@pytest.mark.parametrize(
    "crash",
    [
        "replace:.git/HEAD:after:1",
        pytest.param("replace:.git/HEAD:before:1", marks=pytest.mark.slow),
        pytest.param("replace:.git/index:after:1", marks=pytest.mark.slow),
    ],
)
def test_a_commit_on_a_detached_head_is_made_once(here: World, crash: str) -> None:
    here.scratch.git("switch", "-q", "--detach")
    here.scratch.write("calc.py", CALC + "# more\n")
    here.workflow('steps:\n  - { id: commit, commit: { message: "feat: more" } }\n')
    here.arm(crash)
    here.start().killed()
    here.arm("")
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.scratch.git("rev-list", "--count", "HEAD") == "2"
    assert here.scratch.git("status", "--porcelain") == ""
    assert here.scratch.git("log", "main", "-1", "--format=%s") == "start"


def test_work_that_main_delegated_is_undone_and_main_told(here: World) -> None:
    here.workflow(f"""
        steps:
          - id: ask
            prompt: Delegate it.
          - id: part
            needs: []
            when: failure
            run: {here.note("part")}; echo part > part.txt; {here.hold()}
          - id: commit
            needs: [ask]
            commit: {{ message: "feat: part" }}
        """)

    def script(ask: Ask) -> Reply:
        if '"tool_result"' in ask.text:
            return done(ask)
        return Answer(calls=(Call("delegate", {"tasks": [{"step": "part"}]}),))

    with serving(script) as provider:
        environ = provider.environ()
        here.start(*MODELS, environ=environ).wait_for(here.at()).kill()
        here.scratch.write("test_calc.py", "# mine\n")
        here.go()
        told = here.resume("--discard-external", environ=environ)
        assert told.code == 0, told.stderr
        assert "interrupted" in provider.asks[1].text
        assert len(provider.asks) == 2
    assert here.ledger == ["part"]
    assert not (here.root / "part.txt").exists()


# -- another machine -------------------------------------------------------------------------------


def test_a_state_directory_is_resumed_on_another_machine(here: World) -> None:
    broken(here)
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        # As a job's last step packs it; the next job has a fresh checkout in the same place.
        tar = here.file("state.tar")
        subprocess.run(["tar", "-cf", tar, "-C", here.where, "state"], check=True)
        subprocess.run(["rm", "-rf", here.file("state")], check=True)
        here.scratch.git("checkout", "-q", "--", ".")
        subprocess.run(["tar", "-xf", tar, "-C", here.where], check=True)
        (journal,) = here.file("state").rglob("journal.sqlite3")
        with closing(sqlite3.connect(journal)) as database:
            database.execute("UPDATE run SET host = 'other', boot = 'other', pid = 1")
            database.commit()
        assert "killed" in here.runner("runs")
        told = here.resume("--discard-external", environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 3
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()


def test_a_journal_of_an_older_release_is_shown_and_not_resumed(here: World) -> None:
    here.workflow('steps:\n  - { id: one, run: "true" }\n')
    assert here.start().end().code == 0
    (journal,) = here.file("state").rglob("journal.sqlite3")
    for file in journal.parent.glob("journal.sqlite3*"):
        file.unlink()
    shutil.copyfile(Path(__file__).parent / "data/journal-format-1.sqlite3", journal)
    shown = here.runner("show", "last")
    assert "20261122-015418-05ed of old" in shown
    assert "interrupted" in shown
    refused = here.resume()
    assert refused.code == 2
    assert "An older release ran it" in refused.stderr
    # A new run goes into the same journal.
    assert here.start().end().code == 0
    assert here.runner("runs").count("20261122-") + here.runner("runs").count("killed") >= 2


def test_old_runs_go_by_the_configuration(here: World) -> None:
    here.workflow('steps:\n  - { id: one, run: "head -c 300000 /dev/zero | tr 0 x" }\n')
    config = here.file("config.yaml")
    environ = {"SUBRUNNER_CONFIG": str(config)}
    config.write_text("keep_runs: 9\n")
    for _ in range(3):
        assert here.start(environ=environ).end().code == 0
    assert here.runner("runs").count("succeeded") == 3
    config.write_text("keep_size: 1\n")
    here.workflow('steps:\n  - { id: one, run: "head -c 900000 /dev/zero | tr 0 x" }\n')
    assert here.start(environ=environ).end().code == 0
    assert here.runner("runs").count("succeeded") < 4


# -- what is refused -------------------------------------------------------------------------------


def cut_off(here: World) -> None:
    here.workflow(f"""
        steps:
          - id: one
            run: {here.hold()}
          - id: commit
            commit: {{ message: "feat: one" }}
        """)
    here.scratch.write("new.py", "x = 1\n")
    here.scratch.git("add", "new.py")
    here.start().wait_for(here.at()).kill()
    here.go()


def test_another_branch(here: World) -> None:
    cut_off(here)
    here.scratch.git("switch", "-q", "-c", "other")
    refused = here.resume()
    assert refused.code == 2
    assert "git switch main" in refused.stderr
    here.scratch.git("switch", "-q", "main")
    assert here.resume().code == 0


def test_a_history_that_was_rewritten(here: World) -> None:
    cut_off(here)
    here.scratch.git("commit", "-q", "--amend", "-m", "amended")
    refused = here.resume()
    assert refused.code == 2
    assert "HEAD" in refused.stderr


def test_the_users_own_commit_on_top_is_no_trouble(here: World) -> None:
    cut_off(here)
    here.scratch.write("calc.py", CALC + "# mine\n")
    here.scratch.git("commit", "-q", "-m", "mine", "calc.py")
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.scratch.git("log", "--format=%s").splitlines()[1] == "mine"


def test_a_changed_workflow(here: World) -> None:
    cut_off(here)
    file = here.where / "workflow.yaml"
    file.write_text(file.read_text() + "# another\n")
    refused = here.resume()
    assert refused.code == 2
    assert "workflow.yaml changed" in refused.stderr
    assert "runner exec" in refused.stderr


def test_a_run_that_is_over(here: World) -> None:
    here.workflow("""
        steps:
          - id: one
            run: "true"
        """)
    assert here.start().end().code == 0
    refused = here.resume()
    assert refused.code == 2
    assert "is over" in refused.stderr


def test_a_live_run_is_never_taken_over_and_only_one_resumes_a_dead_one(here: World) -> None:
    here.workflow(f"""
        steps:
          - id: one
            run: {here.note("one")}; {here.hold()}
        """)
    life = here.start().wait_for(here.at())
    refused = here.resume()
    assert refused.code == 2
    assert "is going on" in refused.stderr
    life.kill()
    here.file("at-go").unlink()
    second = here.start_resume().wait_for(here.at())
    assert here.resume().code == 2
    here.go()
    assert second.end().code == 0
    assert here.ledger == ["one", "one"]


def test_a_run_killed_before_its_first_event_begins(here: World) -> None:
    here.workflow(f"""
        steps:
          - id: one
            run: {here.note("one")}
        """)
    here.arm("write:run_started:before:1")
    here.start().killed()
    here.arm("")
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.ledger == ["one"]


# -- the graph -------------------------------------------------------------------------------------


def test_used_workflows_conditions_and_failures_are_taken_over(here: World) -> None:
    (here.where / "inner.yaml").write_text(
        "steps:\n"
        f"  - {{ id: a, run: '{here.note('a')}' }}\n"
        f"  - {{ id: b, run: '{here.note('b')}; {here.hold()}' }}\n"
        f"  - {{ id: c, run: '{here.note('c')}' }}\n"
    )
    here.workflow(f"""
        steps:
          - id: bad
            run: {here.note("bad")}; false
          - id: blocked
            run: {here.note("never")}
          - id: skipped
            needs: []
            if: "1 == 2"
            run: {here.note("never")}
          - id: part
            needs: [skipped]
            uses: ./inner.yaml
          - id: clean
            needs: [part]
            when: always
            run: {here.note("clean")}
        """)
    here.start("-j", "1").wait_for(here.at()).kill()
    here.go()
    told = here.resume()
    assert told.code == 1, told.stderr
    assert sorted(here.ledger) == sorted(["bad", "a", "b", "b", "c", "clean"])
    assert told.status() == {
        "bad": "failed", "blocked": "blocked", "skipped": "skipped", "part": "succeeded",
        "clean": "succeeded", "part/a": "succeeded", "part/b": "succeeded", "part/c": "succeeded",
    }  # fmt: skip


def test_what_ran_always_at_the_interrupt_runs_again_at_the_end(here: World) -> None:
    here.workflow(f"""
        steps:
          - id: one
            run: {here.note("one")}; {here.hold()}
          - id: down
            when: always
            run: {here.note("down")}
        """)
    life = here.start().wait_for(here.at())
    life.process.send_signal(signal.SIGTERM)
    assert life.end().code == 143
    assert here.ledger == ["one", "down"]
    here.go()
    told = here.resume()
    assert told.code == 0, told.stderr
    assert here.ledger == ["one", "down", "one", "down"]


def test_time_that_earlier_lives_took_counts(here: World) -> None:
    here.workflow(f"""
        budget: {{ time: 3s }}
        steps:
          - id: one
            run: {here.hold()}
        """)
    first = here.start().end()
    assert first.code == 3
    refused = here.resume()
    assert refused.code == 2
    assert "--time" in refused.stderr
    here.go()
    told = here.resume("--time", "1m")
    assert told.code == 0, told.stderr
    assert told.report["seconds"] > 3


def test_the_environment_of_the_test_is_clean() -> None:
    assert "TEST_CRASH" not in os.environ


# -- what lies between two writes ------------------------------------------------------------------


def test_a_mend_that_passed_is_taken_from_the_journal(here: World) -> None:
    broken(here)
    with serving(mender(hold_at=0)) as provider:
        environ = provider.environ()
        here.arm("write:attempt_finished:after:2")
        here.start(*MODELS, environ=environ).killed()
        here.arm("")
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 2
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()
    assert "Runner-Mended: calc.py" in here.scratch.git("log", "-1", "--format=%B")
    step = told.report["steps"][0]
    assert (step["status"], step["rung"]) == ("succeeded", "subagent")
    assert [a["verdict"] for a in step["attempts"]] == ["hard", "passed"]


def test_an_own_write_that_was_not_settled_is_undone_and_the_call_told_so(here: World) -> None:
    broken(here)

    def script(ask: Ask) -> Reply:
        return Answer(calls=(EDIT,)) if ask.number < 3 else done(ask)

    with serving(script) as provider:
        environ = provider.environ()
        here.arm("replace:calc.py:after:1")
        here.start(*MODELS, environ=environ).killed()
        here.arm("")
        assert here.scratch.read("calc.py") == CALC
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        assert len(provider.asks) == 3
        assert "interrupted" in provider.asks[1].text
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()
    assert here.of("restored")[0]["paths"] == ["calc.py"]


def test_the_main_agents_prompt_goes_on_with_its_cache_whole(here: World) -> None:
    broken(here)
    here.workflow(f"""
        steps:
          - id: implement
            prompt: Make it add.
            check: {JUDGE}
          - id: commit
            commit: {{ message: "fix: add" }}
        """)
    with serving(mender(hold_at=2)) as provider:
        environ = provider.environ()
        life = here.start(*MODELS, environ=environ)
        life.wait_for(lambda: len(provider.asks) == 2).kill()
        told = here.resume(environ=environ)
        assert told.code == 0, told.stderr
        # Sent again byte for byte: what was asked and not answered.
        assert [ask.body["messages"] for ask in provider.asks[1:]] == [
            provider.asks[1].body["messages"]
        ] * 2
    assert told.report["prefix"]["unbroken"]
    assert told.report["prefix"]["breaks"] == []
    assert here.scratch.git("show", "HEAD:calc.py") == CALC.strip()


# -- state -----------------------------------------------------------------------------------------

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /home rw - nfs4 server:/home rw,vers=4.2
41 40 0:36 / /home/ada/local\\040disk rw - xfs /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/x", ""),
        ("/home/ada/.local/state", "nfs4"),
        ("/home/ada/local disk/state", ""),
        ("/homely", ""),
    ],
)
def test_network_file_systems_are_told_by_the_nearest_mount(path: str, kind: str) -> None:
    assert network_file_system(path, MOUNTS) == kind


def test_old_and_big_runs_are_pruned_but_never_the_newest(world: Path) -> None:
    now = 1_000_000_000.0
    with Journal.open(world / "state", clock=lambda: now) as journal:
        for day, name in enumerate(("a", "b", "c", "d")):
            now = 1_000_000_000.0 + day * 86_400
            journal.begin(name, world)
            journal.end(name)
        assert journal.prune(10, days=2) == ("a",)
        assert journal.prune(10, most=25, size=lambda _: 10) == ("b",)
        assert journal.prune(10, most=5, size=lambda _: 10) == ("c",)
        assert [row.id for row in journal.runs()] == ["d"]
        assert journal.prune(10, days=0) == ()
