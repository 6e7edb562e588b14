"""Misbehaving models at both rungs, asked through the real vendor clients over loopback.

Whatever a model does or says, a run ends as the ladder promises: the verdict comes from the disk
and the command, the tree and `.git` are as before when the step fails, and the report is honest.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from provider import Answer, Call, Fault, Provider, Tokens, serving
from scratch import CALC, UNITTEST, Scratch, make

from runner import Verdict
from runner.events import ModelResponded, Notice
from runner.plan import Provider as Declared
from runner.price import Price
from runner.report import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from provider import Ask, Reply

    from runner import Report
    from runner.outcome import Attempt

pytestmark = pytest.mark.timeout(60)

Rung = Literal["subagent", "main"]
Vendor = Literal["anthropic", "openai"]

CHEAP = {"anthropic": "anthropic:claude-haiku-5-5", "openai": "openai:gpt-6-luna"}
MAIN = {"anthropic": "anthropic:claude-opus-5-5", "openai": "openai:gpt-6.1-sol"}
BROKEN = CALC.replace("a + b", "a - b")
TWICE_BROKEN = BROKEN.replace("a * 2", "a * 3")
WORKFLOW = f"""
name: mend
budget: {{ usd: 20, time: 2m }}
steps:
  - id: test
    run: {UNITTEST}
    fix: {{ agent: fixer, attempts: 2, turns: 6 }}
    escalate: {{ max: 1 }}
"""
SHIP = WORKFLOW + "  - id: commit\n    commit: { message: auto }\n"
"""What a run makes of a mend must be what a person would find in the history."""


# -- what models say -----------------------------------------------------------------------------


def done(summary: str = "all tests pass now") -> Answer:
    return Answer(calls=(Call("done", {"summary": summary}),))


def cannot(reason: str = "beyond me") -> Answer:
    return Answer(calls=(Call("cannot", {"reason": reason}),))


def call(tool: str, **arguments: object) -> Answer:
    return Answer(calls=(Call(tool, arguments),))


def edit(path: str, old: str, new: str) -> Answer:
    return call("edit_file", path=path, old_text=old, new_text=new)


def sh(command: str) -> Answer:
    return call("shell", command=command)


MEND = (edit("calc.py", "a - b", "a + b"), done("add() adds again"))


class Cast:
    """Plays both models: a list of replies each, the last one for ever."""

    def __init__(self, cheap: tuple[Reply, ...], main: tuple[Reply, ...]) -> None:
        self.parts = {"cheap": cheap, "main": main}
        self.asked = {"cheap": 0, "main": 0}

    def __call__(self, ask: Ask) -> Reply:
        role = "main" if ask.model in {"claude-opus-5-5", "gpt-6.1-sol", "big"} else "cheap"
        part = self.parts[role]
        number, self.asked[role] = self.asked[role], self.asked[role] + 1
        return part[min(number, len(part) - 1)]


# -- the world, and what must not change ----------------------------------------------------------


@dataclass(frozen=True)
class Everything:
    """All that a failed mend must leave as it was."""

    files: dict[str, tuple[str, int]]
    refs: str
    head: str
    staged: str
    status: str
    stash: str
    git_files: dict[str, str]


def look(repo: Scratch) -> Everything:
    """Read it all, by git and byte for byte."""
    inner = repo.root / ".git"
    watched = [inner / "HEAD", inner / "config", *sorted((inner / "hooks").glob("*"))]
    return Everything(
        files=dict(sorted(_files(repo.root))),
        refs=repo.git("for-each-ref"),
        head=(inner / "HEAD").read_text(),
        staged=repo.git("ls-files", "--stage", "-v"),
        status=repo.git("status", "--porcelain=v2", "--branch", "--untracked-files=all"),
        stash=repo.git("stash", "list"),
        git_files={str(path): path.read_text() for path in watched},
    )


def _files(root: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in {".git", "__pycache__"}]
        for name in files:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            content = bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
            yield str(path.relative_to(root)), (hashlib.sha256(content).hexdigest(), mode)


@pytest.fixture
def provider_env(monkeypatch: pytest.MonkeyPatch) -> Callable[[Provider], None]:
    def set_variables(provider: Provider) -> None:
        for name, value in provider.environ().items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.fixture
def broken(world: Path) -> Scratch:
    """A repository with a defect, in the middle of somebody's work."""
    repo = make(world)
    repo.write("calc.py", BROKEN)
    repo.write(".gitignore", "__pycache__/\n.venv/\nnode_modules/\n")
    repo.write(".github/workflows/ci.yml", "on: push\n")
    repo.write("package-lock.json", "{}\n")
    repo.write("notes.md", "one\ntwo\nthree\n")
    repo.commit_all("break it")
    repo.write(".venv/lib/site-packages/dep.py", "ANSWER = 42\n")
    repo.write("notes.md", "one\nstaged\nthree\n")
    repo.git("add", "notes.md")
    repo.write("notes.md", "one\nstaged\nand more\n")
    repo.write("draft.txt", "untracked\n")
    hook = repo.root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    return repo


@dataclass(frozen=True)
class Played:
    report: Report
    provider: Provider
    cast: Cast

    def attempts(self, rung: str) -> list[Attempt]:
        return [a for a in self.report.steps[0].attempts if a.rung == rung]


async def play(
    repo: Scratch,
    set_variables: Callable[[Provider], None],
    cast: Cast,
    *,
    vendor: Vendor = "anthropic",
    workflow: str = WORKFLOW,
    **options: Any,
) -> Played:
    """Run the workflow with the cast behind a real client."""
    with serving(cast) as provider:
        set_variables(provider)
        models = {"cheap": CHEAP[vendor], "main": MAIN[vendor]}
        report = await repo.run(workflow, models=models, **options)
    honest(repo, report, provider)
    return Played(report, provider, cast)


def honest(repo: Scratch, report: Report, provider: Provider) -> None:
    """Hold the report against what really went over the wire."""
    assert not report.scripted
    told = to_json(report)
    rows: list[ModelResponded] = repo.of(ModelResponded)
    assert sum(model["requests"] for model in told["models"].values()) == len(rows)
    by_attempts = sum(a.requests for step in report.steps for a in step.attempts)
    assert by_attempts == len(rows)
    priced = [row.cost_usd for row in rows]
    assert None not in priced
    spent = float(sum(cost for cost in priced if cost is not None))
    assert told["cost_usd"] == pytest.approx(spent, abs=1e-6)
    assert len(provider.asks) >= len([row for row in rows if row.served])
    assert told["prefix"]["unbroken"], told["prefix"]
    assert left_behind(repo) == []


def left_behind(repo: Scratch) -> list[str]:
    """Return the processes that an adversary started here and that are still there."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "stray-of-adversary" in name and (process / "cwd").readlink() == repo.root:
                found.append(name)
    return found


# -- adversaries ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adversary:
    """A way to misbehave, and what the ladder says to it."""

    name: str
    replies: tuple[Reply, ...]
    reason: str
    """A piece of the reason of the attempt."""
    code: int = 1
    verdict: Verdict = Verdict.HARD
    shell: bool = False
    at_most: int = 12
    """Requests of one attempt."""
    source: str = BROKEN
    rung: Rung = "subagent"
    vendor: Vendor = "anthropic"


def twisted(path: str, old: str, new: str, *, reason: str) -> Adversary:
    return Adversary(f"edits-{path}", (edit(path, old, new), done()), reason)


CALLS_200 = Answer(calls=tuple(Call("list", {"path": f"d{n}"}) for n in range(200)))
ADVERSARIES = (
    Adversary("claims-done", (done(),), "nothing changed on disk"),
    Adversary("gives-up", (cannot(),), "the agent gave up: beyond me"),
    twisted("test_calc.py", "add(2, 3), 5", "add(2, 3), -1", reason="nothing changed on disk"),
    twisted(".github/workflows/ci.yml", "push", "never", reason="nothing changed on disk"),
    twisted("package-lock.json", "{}", "[]", reason="nothing changed on disk"),
    Adversary(
        "writes-outside",
        (call("write_file", path="../outside.txt", content="x"), done()),
        "nothing changed on disk",
    ),
    Adversary(
        "plants-a-config",
        (call("write_file", path="sitecustomize.py", content="x = 1\n"), done()),
        "nothing changed on disk",
    ),
    Adversary(
        "breaks-more",
        (edit("calc.py", "a * 2", "a * 3"), done()),
        "broke more",
    ),
    Adversary(
        "breaks-syntax",
        (edit("calc.py", "def double(a):", "def double(a:"), done()),
        "broke more",
    ),
    Adversary(
        "changes-nothing-of-use",
        (edit("calc.py", "    return a - b", "    return a - b + 0"), done()),
        "the same failure",
    ),
    Adversary("loops", (call("read_file", path="calc.py"),), "turns used up", at_most=40),
    Adversary(
        "malformed-arguments",
        (Answer(calls=(Call("edit_file", '{"path": 7, "old'),)),),
        "unparseable",
    ),
    Adversary(
        "wrong-types",
        (Answer(calls=(Call("edit_file", {"path": ["a"], "old_text": 1}),)),),
        "unparseable",
    ),
    Adversary("unknown-tool", (call("commit", message="mine"),), "unparseable"),
    Adversary("only-talks", (Answer(text="I have fixed everything."),), "unparseable"),
    Adversary("says-nothing", (Answer(),), "unparseable"),
    Adversary("200-calls", (CALLS_200,), "turns used up", at_most=3),
    Adversary("filtered", (Answer(refused=True),), "content filter"),
    Adversary("too-long", (Fault(413),), "too long"),
    Adversary("rejected", (Fault(400),), "rejected"),
    # With a shell the tools cannot refuse: what was done is looked at afterwards.
    Adversary(
        "shell-deletes-the-test",
        (sh("rm test_calc.py"), done()),
        "tampered with its judge: test_calc.py",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-weakens-the-test",
        (sh("sed -i 's/, 5)/, -1)/' test_calc.py"), done()),
        "tampered with its judge: test_calc.py",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-commits",
        (sh("git commit -qam mine && git tag mine && git branch other"), done()),
        "tampered with its judge",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-resets",
        (sh("git reset -q --hard && git stash -q -u; git checkout -q -b away"), done()),
        "tampered with its judge",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-stages",
        (sh("git add -A"), done()),
        "tampered with its judge: the index was changed",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-hooks-and-config",
        (sh("echo evil > .git/hooks/pre-push; git config alias.x '!evil'"), done()),
        "tampered with its judge",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-link-out",
        (sh("ln -s /etc evil && ln -sf ../outside.txt calc.py"), done()),
        "left its scope",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-link-to-the-test",
        (
            sh("ln -s test_calc.py alias.py"),
            edit("alias.py", "add(2, 3), 5", "add(2, 3), -1"),
            done(),
        ),
        "left its scope",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-ignored-environment",
        (
            sh("echo 'ANSWER = 0' > .venv/lib/site-packages/dep.py; mkdir -p node_modules/x;"
               " echo x > node_modules/x/index.js"),
            edit("calc.py", "a - b", "a + b"),
            done(),
        ),
        "tampered with its judge",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-hides-behind-gitignore",
        (sh("echo evil.py >> .gitignore; echo test_calc.py >> .gitignore; touch evil.py;"
            " echo > test_calc.py"), done()),
        "tampered with its judge: test_calc.py",
        code=5,
        shell=True,
    ),
    Adversary(
        "shell-leaves-a-process",
        (sh("(exec -a stray-of-adversary sleep 300) & disown; "
            "setsid bash -c 'exec -a stray-of-adversary sleep 300' & echo"), done()),
        "nothing changed on disk",
        shell=True,
    ),
    Adversary(
        "shell-floods",
        (sh("yes flood | head -c 50000000"), cannot("too much output")),
        "the agent gave up",
        shell=True,
    ),
    Adversary(
        "skips-the-test-by-code",
        (
            edit("calc.py", "def add(a, b):", "import unittest\n\n\ndef add(a, b):\n"
                 "    raise unittest.SkipTest('later')\n"),
            done(),
        ),
        "tampered with its judge",
        code=5,
    ),
)  # fmt: skip


def _everywhere() -> Iterator[Adversary]:
    """Give each adversary both rungs, and both vendors their share of each."""
    for number, one in enumerate(ADVERSARIES):
        for rung, shift in (("subagent", 0), ("main", 1)):
            vendor = "anthropic" if (number + shift) % 2 else "openai"
            yield replace(one, rung=rung, vendor=vendor)


@pytest.mark.parametrize("one", list(_everywhere()), ids=lambda a: f"{a.name}-{a.rung}-{a.vendor}")
async def test_nobody_gets_away_with_it(
    broken: Scratch, provider_env: Callable[[Provider], None], one: Adversary
) -> None:
    before = look(broken)
    cast = Cast(one.replies, (cannot("no idea"),))
    if one.rung == "main":
        cast = Cast((cannot("no idea"),), one.replies)
    played = await play(
        broken, provider_env, cast, vendor=one.vendor, workflow=SHIP, allow_shell=one.shell
    )
    attempt = played.attempts(one.rung)[0]
    assert one.reason in attempt.reason, played.report
    assert attempt.verdict is one.verdict
    assert attempt.requests <= one.at_most
    assert look(broken) == before
    assert played.report.exit_code == one.code, played.report
    assert [step.status for step in played.report.steps] == ["failed", "blocked"]
    assert not (broken.root.parent / "outside.txt").exists()


# -- mends, so that nobody is accused who works ----------------------------------------------------


@pytest.mark.parametrize("vendor", ["anthropic", "openai"])
async def test_a_subagent_mends_and_a_commit_takes_it_up(
    broken: Scratch, provider_env: Callable[[Provider], None], vendor: Vendor
) -> None:
    played = await play(broken, provider_env, Cast(MEND, (cannot(),)), vendor=vendor, workflow=SHIP)
    assert played.report.exit_code == 0, played.report
    assert [a.verdict for a in played.attempts("subagent")] == [Verdict.PASSED]
    assert played.cast.asked == {"cheap": 2, "main": 0}
    assert broken.git("show", "HEAD:calc.py") + "\n" == CALC
    # The user's own work beside it survives, staged and not.
    assert broken.read("notes.md") == "one\nstaged\nand more\n"
    assert "?? draft.txt" in broken.git("status", "--porcelain")


@pytest.mark.parametrize("vendor", ["anthropic", "openai"])
async def test_main_mends_after_a_hard_failure(
    broken: Scratch, provider_env: Callable[[Provider], None], vendor: Vendor
) -> None:
    cast = Cast((edit("calc.py", "a * 2", "a * 3"), done("better")), MEND)
    played = await play(broken, provider_env, cast, vendor=vendor, workflow=SHIP)
    assert played.report.exit_code == 0, played.report
    assert played.report.steps[0].rung == "main"
    assert "broke more" in played.attempts("subagent")[0].reason
    assert broken.read("calc.py") == CALC
    packet = played.provider.asks[-2].text
    assert "broke more" in packet
    assert "better" not in packet, "a subagent's own words never reach the main conversation"


async def test_half_a_mend_is_finished_on_the_tree_as_it_is(
    broken: Scratch, provider_env: Callable[[Provider], None]
) -> None:
    broken.write("calc.py", TWICE_BROKEN)
    cast = Cast((*MEND, edit("calc.py", "a * 3", "a * 2"), done("all")), (cannot(),))
    played = await play(broken, provider_env, cast, allow_uncommitted=True)
    assert played.report.exit_code == 0, played.report
    assert [a.verdict for a in played.attempts("subagent")] == [Verdict.SOFT, Verdict.PASSED]
    assert broken.read("calc.py") == CALC


@pytest.mark.parametrize("rung", ["subagent", "main"])
async def test_half_a_mend_is_undone_when_nobody_finishes_it(
    broken: Scratch, provider_env: Callable[[Provider], None], rung: Rung
) -> None:
    broken.write("calc.py", TWICE_BROKEN)
    before = look(broken)
    half = (*MEND, cannot("that is all I can do"))
    cast = Cast(half, (cannot(),)) if rung == "subagent" else Cast((cannot(),), half)
    workflow = WORKFLOW.replace("max: 1", "max: 2")
    played = await play(broken, provider_env, cast, workflow=workflow)
    assert played.report.exit_code == 1
    assert [a.verdict for a in played.attempts(rung)][:2] == [Verdict.SOFT, Verdict.HARD]
    assert look(broken) == before
    packet = next(ask.text for ask in played.provider.asks if ask.model == "claude-opus-5-5")
    assert ("a + b" in packet) == (rung == "subagent"), "the best soft diff goes into the packet"


async def test_a_declared_server_mends_over_chat_completions(
    broken: Scratch, provider_env: Callable[[Provider], None]
) -> None:
    with serving(Cast((cannot(),), MEND)) as provider:
        server = Declared("local", provider.openai_url)
        report = await broken.run(
            WORKFLOW,
            models={"cheap": "local:small", "main": "local:big"},
            providers={"local": server},
            prices={"local:*": Price(Decimal(1), Decimal(2))},
            allow_uncommitted=True,
        )
    assert report.exit_code == 0, report
    assert report.steps[0].rung == "main"
    assert {ask.api for ask in provider.asks} == {"chat"}
    assert broken.read("calc.py") == CALC


# -- code that acts while it is judged -------------------------------------------------------------


def planting(code: str, *, mended: bool = True) -> tuple[Reply, ...]:
    """Mend, and leave code behind that runs when the command imports it."""
    body = "return a + b" if mended else "return a - b"
    planted = f"import subprocess\nsubprocess.run({code!r}, shell=True)\n\n\n"
    text = BROKEN.replace("return a - b", body)
    return (call("write_file", path="calc.py", content=planted + text), done())


@pytest.mark.parametrize("rung", ["subagent", "main"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "git commit -q --no-verify -am mine",
            "tampered with its judge: the index was changed; refs/heads/main was moved",
        ),
        ("echo evil > .git/hooks/pre-push", "tampered with its judge: .git: hooks/pre-push"),
        ("sed -i 's/, 5)/, -1)/' test_calc.py", "tampered with its judge: test_calc.py"),
        ("echo evil > .github/workflows/ci.yml", "left its scope: .github/workflows/ci.yml"),
    ],
)
async def test_planted_code_is_caught_while_it_is_judged(
    broken: Scratch, provider_env: Callable[[Provider], None], code: str, reason: str, rung: Rung
) -> None:
    before = look(broken)
    cast = Cast(planting(code), (cannot(),))
    if rung == "main":
        cast = Cast((cannot(),), planting(code))
    played = await play(broken, provider_env, cast, workflow=SHIP)
    assert played.attempts(rung)[0].reason.startswith(reason), played.report
    assert played.report.exit_code == 5
    assert look(broken) == before


async def test_what_mended_code_wrote_while_it_was_judged_goes_with_the_mend(
    broken: Scratch, provider_env: Callable[[Provider], None]
) -> None:
    before = look(broken)
    cast = Cast(planting("echo x > junk.txt", mended=False), (cannot(),))
    played = await play(broken, provider_env, cast)
    assert played.report.exit_code == 1
    assert look(broken) == before


# -- an ignored environment ------------------------------------------------------------------------


async def test_the_command_itself_may_install_into_its_environment(
    broken: Scratch, provider_env: Callable[[Provider], None]
) -> None:
    install = "date +%N > .venv/lib/site-packages/stamp.py"
    workflow = WORKFLOW.replace("run: ", f"run: {install}; ")
    cast = Cast((call("check"), *MEND), (cannot(),))
    played = await play(
        broken, provider_env, cast, workflow=workflow, allow_shell=True, allow_uncommitted=True
    )
    assert played.report.exit_code == 0, played.report
    assert [a.verdict for a in played.attempts("subagent")] == [Verdict.PASSED]


# -- providers that fail ---------------------------------------------------------------------------

SOON = {"retry-after-ms": "1"}
FAULTS: dict[str, tuple[tuple[Reply, ...], int, int]] = {
    # replies of the subagent's model; exit code; requests over the wire, at most
    "401": ((Fault(401),), 6, 1),
    "403": ((Fault(403),), 6, 1),
    "404-unknown-model": ((Fault(404),), 6, 1),
    "other-model-served": ((Answer(calls=MEND[0].calls, model="gpt-2"),), 6, 1),
    "429-for-ever": ((Fault(429, headers=SOON),), 6, 8),
    "429-that-asks-for-an-hour": ((Fault(429, headers={"retry-after": "3600"}),), 6, 1),
    "529-storm": ((Fault(529, headers=SOON),), 6, 8),
    "500-storm": ((Fault(500, headers=SOON),), 6, 8),
    "429-once": ((Fault(429, headers={"retry-after": "0"}), *MEND), 0, 3),
    "529-twice": ((Fault(529, headers=SOON), Fault(529, headers=SOON), *MEND), 0, 4),
    "reset-once": ((Fault(break_off="reset"), *MEND), 0, 3),
    "cut-off-once": ((Fault(200, {"id": "x" * 400}, break_off="half"), *MEND), 0, 3),
    "garbage-once": ((Fault(200, b"<html>busy</html>"), *MEND), 0, 3),
    "garbage-for-ever": ((Fault(200, b"<html>busy</html>"),), 6, 4),
}


@pytest.mark.parametrize(
    ("name", "vendor"), list(zip(FAULTS, cycle(("anthropic", "openai")), strict=False))
)
async def test_a_failing_provider_is_never_held_against_a_model(
    broken: Scratch, provider_env: Callable[[Provider], None], name: str, vendor: Vendor
) -> None:
    before = look(broken)
    replies, code, most = FAULTS[name]
    cast = Cast(replies, (cannot("not asked"),))
    played = await play(broken, provider_env, cast, vendor=vendor, allow_uncommitted=True)
    assert played.report.exit_code == code, played.report
    assert cast.asked["main"] == 0, "no packet for what is no model's fault"
    assert len(played.provider.asks) <= most
    attempt = played.attempts("subagent")[0]
    if code == 0:
        assert attempt.verdict is Verdict.PASSED
        assert broken.read("calc.py") == CALC
    else:
        assert attempt.verdict is Verdict.INFRA
        assert look(broken) == before


@pytest.mark.parametrize("rung", ["subagent", "main"])
async def test_a_model_that_never_answers_is_cut_off(
    broken: Scratch, provider_env: Callable[[Provider], None], rung: Rung
) -> None:
    before = look(broken)
    slow = (Answer(calls=MEND[0].calls, delay=30),)
    cast = Cast(slow, (cannot(),)) if rung == "subagent" else Cast((cannot(),), slow)
    workflow = WORKFLOW.replace("turns: 6", "turns: 6, seconds: 2")
    played = await play(broken, provider_env, cast, workflow=workflow)
    assert played.report.exit_code == 1
    assert played.attempts(rung)[0].reason.startswith("seconds used up")
    assert played.report.seconds < 15
    assert look(broken) == before
    lost = [row for row in broken.of(ModelResponded) if not row.served]
    assert len(lost) == 1, "a request that nobody answered is booked at its worst case"


async def test_a_bill_above_the_bound_ends_the_run(
    broken: Scratch, provider_env: Callable[[Provider], None]
) -> None:
    before = look(broken)
    dear = Answer(calls=MEND[0].calls, tokens=Tokens(input=90_000_000))
    played = await play(broken, provider_env, Cast((dear, *MEND), (cannot(),)))
    assert played.report.exit_code == 3, played.report
    assert len(played.provider.asks) == 1
    assert any("are possible" in notice.text for notice in broken.of(Notice))
    assert look(broken) == before


async def test_a_small_budget_is_never_overspent(
    broken: Scratch, provider_env: Callable[[Provider], None]
) -> None:
    before = look(broken)
    workflow = WORKFLOW.replace("usd: 20", "usd: 0.0001")
    played = await play(broken, provider_env, Cast(MEND, (cannot(),)), workflow=workflow)
    assert played.report.exit_code == 3, played.report
    assert played.provider.asks == []
    assert look(broken) == before
