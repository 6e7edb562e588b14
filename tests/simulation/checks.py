"""What must hold for every story: judged by ledger, disk and journal, never by the run's word."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner.events import (
    AttemptFinished,
    CommandFinished,
    CommandStarted,
    ModelAsked,
    ModelRefused,
    ModelResponded,
    RunFinished,
    RunResumed,
    RunStarted,
    SnapshotTaken,
    StepFinished,
    StepStarted,
)
from runner.journal import Journal
from runner.outcome import Rung, Status, StepOutcome, Verdict
from runner.resuming import OVER

from .story import SECRET
from .tree import FakeTree, blob_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.events import Event

    from .lives import Told

_MET = (Status.SUCCEEDED, Status.SKIPPED)


class History:
    """All that is known of a story that was told."""

    def __init__(self, told: Told) -> None:
        self.told, self.story, self.place = told, told.story, told.place
        self.raw = (told.place.state() / "journal.sqlite3").read_bytes()
        with Journal.open(told.place.state(), create=False) as journal:
            (row,) = journal.runs()
            self.run_id = row.id
            self.events: list[Event] = list(journal.events(row.id))
        self.ledger = [json.loads(line) for line in told.place.ledger.read_text().splitlines()]
        self.steps = self.story.steps()
        self.outcomes: dict[str, StepOutcome] = {
            one.outcome.id: one.outcome for one in self.of(StepFinished)
        }
        self.tree = FakeTree(told.place.root, told.place.store, lambda _: None)
        self.code = told.lives[-1].code
        self.git = json.loads(told.place.git.read_text())

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    def starts(self, life: int | None = None) -> list[dict[str, Any]]:
        """Return the commands that were started."""
        return [
            one for one in self.ledger if one["what"] == "start" and life in (None, one["life"])
        ]

    def needs(self, shown: str) -> list[str]:
        """Return a step's needs by shown id: by default the step before."""
        prefix, _, name = shown.rpartition("/")
        among = self.story.used if prefix else self.story.workflow
        assert among is not None
        names = [step["id"] for step in among["steps"]]
        before = names[: names.index(name)][-1:]
        return [f"{prefix}/{n}" if prefix else n for n in self.steps[shown].get("needs", before)]


def check(told: Told, twin: Told | None) -> Iterator[str]:
    """Yield what is wrong with a story that was told to its end."""
    yield from told.trouble
    if told.trouble:
        return
    all_of = History(told)
    for rule in RULES:
        for wrong in rule(all_of):
            yield f"{rule.__name__}: {wrong}"
    if twin is not None and not twin.trouble:
        for wrong in as_uninterrupted(all_of, History(twin)):
            yield f"as_uninterrupted: {wrong}"


def no_step_is_lost(h: History) -> Iterator[str]:
    """Every step of the workflow has ended, and only once begun steps have commands."""
    for step in h.story.workflow["steps"]:
        if step["id"] not in h.outcomes:
            yield f"{step['id']} has no outcome"
    told = Counter((one.step, one.purpose) for one in h.of(CommandStarted))
    done = Counter((one["step"], one["purpose"]) for one in h.starts())
    for key, count in done.items():
        if count > told[key]:
            yield f"{key} was started {count} times and written down {told[key]} times"
    kills = sum(one.killed for one in h.told.lives)
    if sum(told.values()) - sum(done.values()) > kills * h.story.jobs:
        yield f"commands were written down and not started: {told - done}"


def needs_come_first(h: History) -> Iterator[str]:
    """A step begins when its needs have ended, and only where `when` lets it."""
    ended: dict[str, StepOutcome] = {}
    for event in h.events:
        if isinstance(event, StepFinished):
            ended[event.outcome.id] = event.outcome
        if not isinstance(event, StepStarted) or event.step not in h.steps:
            continue
        step, needs = h.steps[event.step], h.needs(event.step)
        for need in needs:
            if need not in ended:
                yield f"{event.step} began before {need} had ended"
        met = [_met(h, need, ended[need]) for need in needs if need in ended]
        when = step.get("when", "success")
        if when == "success" and not all(met):
            yield f"{event.step} began though what it needs failed"
        if when == "failure" and all(met):
            yield f"{event.step} began though nothing failed"


def _met(h: History, need: str, outcome: StepOutcome) -> bool:
    lenient = h.steps[need].get("allow_failure", False)
    return outcome.status in _MET or (outcome.status is Status.FAILED and lenient)


def blocked_means_blocked(h: History) -> Iterator[str]:
    """`blocked` and `skipped` say what they say."""
    for shown, outcome in h.outcomes.items():
        if shown not in h.steps:
            continue
        needs = [need for need in h.needs(shown) if need in h.outcomes]
        met = all(_met(h, need, h.outcomes[need]) for need in needs)
        if outcome.status is Status.BLOCKED and met:
            yield f"{shown} is blocked, and its needs are met"
        ran = any(one["step"] == shown for one in h.starts())
        if outcome.status is Status.BLOCKED and ran and not _resumed(h):
            yield f"{shown} is blocked and ran"


def _resumed(h: History) -> bool:
    return len(h.told.lives) > 1


def commands_judge(h: History) -> Iterator[str]:
    """What succeeded has a command that passed last; an agent's word is not enough."""
    last = _last_codes(h)
    for shown, outcome in h.outcomes.items():
        judged = shown in h.steps and ("run" in h.steps[shown] or "check" in h.steps[shown])
        if judged and outcome.status is Status.SUCCEEDED and last.get(shown) != 0:
            yield f"{shown} succeeded, and its last command ended with {last.get(shown)}"


def _last_codes(h: History) -> dict[str, int | None]:
    last: dict[str, int | None] = {}
    stale: set[str] = set()
    for one in h.ledger:
        if one["what"] != "end":
            continue
        if one["purpose"] == "stale":
            stale.add(one["step"])  # from now on a commit looks at it
        if one["purpose"] in ("run", "retry", "check", "agent") and one["step"] not in stale:
            last[one["step"]] = one["code"]
    return last


def mends_are_judged_by_commands(h: History) -> Iterator[str]:
    """An attempt of a model passes by its step's command, run after it."""
    checks: dict[str, bool] = {}
    for event in h.events:
        if isinstance(event, CommandFinished) and event.purpose == "check":
            checks[event.step] = event.exit_code == 0
        if not isinstance(event, AttemptFinished):
            continue
        passed = event.attempt.verdict is Verdict.PASSED and event.attempt.rung is not Rung.COMMAND
        mend = "run" in h.steps.get(event.step, {})
        if passed and mend and not checks.pop(event.step, False):
            yield f"attempt {event.attempt.number} of {event.step} passed without its command"
        checks.pop(event.step, None)


def nothing_starts_after_an_outage(h: History) -> Iterator[str]:
    """Once a step has ended for want of a provider or of money, no other begins in that life."""
    ended = ""
    for event in h.events:
        if isinstance(event, RunResumed):
            ended = ""
        elif isinstance(event, StepFinished) and event.outcome.exit_code in (3, 6):
            ended = event.outcome.id
        elif isinstance(event, StepStarted) and ended:
            step = h.steps.get(event.step)
            if step is not None and step.get("when") != "always":
                yield f"{event.step} began after {ended} had ended the run"


def finished_is_finished(h: History) -> Iterator[str]:
    """What ended by itself in one life is not run again in a later one."""
    lives, ended = 1, dict[str, int]()
    for event in h.events:
        if isinstance(event, RunResumed):
            lives = event.life
        elif isinstance(event, StepFinished) and event.outcome.status is Status.SUCCEEDED:
            ended.setdefault(event.outcome.id, lives)
        elif isinstance(event, StepStarted) and ended.get(event.step, lives) < lives:
            step = h.steps.get(event.step, {})
            # What runs always does so at the end of each life, and at the end of all.
            if "uses" not in step and step.get("when") != "always":
                yield f"{event.step} had succeeded, and began again in life {lives}"


def attempts_are_bounded(h: History) -> Iterator[str]:
    """No model tries more often than its step lets it; numbers go up by one."""
    for shown, outcome in h.outcomes.items():
        step = h.steps.get(shown, {})
        if outcome.attempts and "run" in step:
            numbers = [one.number for one in outcome.attempts]
            if numbers != list(range(1, len(numbers) + 1)):
                yield f"{shown} has attempts {numbers}"
        rungs = Counter(one.rung for one in outcome.attempts)
        most = step.get("fix", {}).get("attempts", 0)
        if "run" in step and rungs[Rung.SUBAGENT] > most:
            yield f"{shown} had {rungs[Rung.SUBAGENT]} attempts of a subagent, of {most}"
        packets: int = step["escalate"]["max"] if step.get("escalate") else 0
        if "run" in step and rungs[Rung.MAIN] > packets:
            yield f"{shown} had {rungs[Rung.MAIN]} packets, of {packets}"
        retries = step.get("retry", {}).get("attempts", 0)
        flaky = sum(one.verdict is Verdict.FLAKY for one in outcome.attempts)
        if flaky and not retries:
            yield f"{shown} is flaky without a retry"


def failures_are_undone(h: History) -> Iterator[str]:
    """What models left is gone where their step failed in the end."""
    spoilt = any(does.spoils for does in h.story.behaviours.values())
    if spoilt or any(one["what"] == "user" for one in h.ledger):
        return
    for does in h.story.behaviours.values():
        outcome = h.outcomes.get(does.step)
        if outcome is None or outcome.status is not Status.FAILED or does.step in h.story.prompts:
            continue
        file = h.place.root / does.file
        found = file.read_text().split() if file.is_file() else None
        fixed = [one for one in does.defects if not one.startswith("a")]
        if found not in (list(does.defects), fixed):
            yield f"{does.step} failed, and {does.file} holds {found}"


def git_does_it_once(h: History) -> Iterator[str]:
    """At most one commit and push a step; what is committed is what passes."""
    commits = [one for one in h.git["commits"].values() if one["parent"]]
    by_step = Counter(
        one["message"].partition("Runner-Step: ")[2].split("\n")[0] for one in commits
    )
    for step, count in by_step.items():
        if count > 1:
            yield f"{step} made {count} commits"
    saved = h.outcomes.get("save")
    if saved is not None and (saved.status is Status.SUCCEEDED) != bool(commits):
        yield f"the commit step {saved.status} and there are {len(commits)} commits"
    if len(h.git["pushes"]) > 1:
        yield f"it pushed {len(h.git['pushes'])} times"
    sent = h.outcomes.get("send")
    if sent is not None and (sent.status is Status.SUCCEEDED) != bool(h.git["pushes"]):
        yield f"the push step {sent.status}, and there are {len(h.git['pushes'])} pushes"
    for one in commits:
        yield from _committed_what_passes(h, h.tree.files(one["tree"]))


def _committed_what_passes(h: History, files: dict[str, str]) -> Iterator[str]:
    wanted, todo = set[str](), h.needs("save")
    while todo:
        need = todo.pop()
        if need not in wanted:
            wanted.add(need)
            todo += h.needs(need)
    for does in h.story.behaviours.values():
        top = does.step.partition("/")[0]
        lenient = any(h.steps[n].get("allow_failure") for n in {top, does.step})
        outcome = h.outcomes.get(does.step)
        if top not in wanted or lenient or outcome is None:
            continue
        if outcome.status is not Status.SUCCEEDED:
            if outcome.status not in _MET:
                yield f"committed though {does.step} {outcome.status}"
            continue
        if does.file in files and not does.passes(h.tree.data(files[does.file]).decode()):
            yield f"committed what {does.step} does not pass on"


def ended_means_ended(h: History) -> Iterator[str]:
    """After a signal nothing new starts but what runs always; nothing at all 5 s later."""
    for signalled in (one for one in h.ledger if one["what"] == "signal"):
        for one in h.starts(signalled["life"]):
            late = one["t"] - signalled["t"]
            step = h.steps.get(one["step"], {})
            if late > 0 and step.get("when") != "always":
                yield f"{one['step']} ({one['purpose']}) was started {late} s after the signal"


def money_is_kept(h: History) -> Iterator[str]:
    """Bills stay within the budget; each request has one row, and each row its request."""
    budget = Decimal(h.story.budget_usd)
    if any(life.code == 3 for life in h.told.lives):
        budget = Decimal(60)
    rows = h.of(ModelResponded)
    spent = sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0))
    if spent > budget:
        yield f"{spent} of {budget} spent"
    asked = Counter(one.number for one in h.of(ModelAsked))
    settled = Counter(one.number for one in (*rows, *h.of(ModelRefused)) if one.number)
    if any(count > 1 for count in asked.values()) or asked != settled:
        yield f"requests {sorted(asked.elements())} have rows {sorted(settled.elements())}"


def main_is_appended(h: History) -> Iterator[str]:
    """The main conversation is opened once, and each request extends the one before."""
    for one in h.of(ModelResponded):
        if one.continuity is not None and one.continuity.broken:
            yield f"request {one.number} does not extend the one before: {one.continuity}"
    opened = {one.conversation for one in h.of(ModelAsked) if one.main}
    if len(opened) > 1:
        yield f"main conversations {sorted(opened)}"


def the_users_work_is_kept(h: History) -> Iterator[str]:
    """What somebody wrote is in the tree, or in a snapshot that the journal knows."""
    for one in h.ledger:
        if one["what"] != "user":
            continue
        file, blob = h.place.root / one["path"], blob_of(one["text"].encode())
        if file.is_file() and blob_of(file.read_bytes()) == blob:
            continue
        trees = {event.tree for event in h.of(SnapshotTaken)}
        later = [e for e in h.ledger if e["what"] == "user" and e["path"] == one["path"]]
        if later[-1] is one and not any(h.tree.files(t).get(one["path"]) == blob for t in trees):
            yield f"{one['path']} of the user is nowhere"


def secrets_stay_secret(h: History) -> Iterator[str]:
    """No granted value is written down."""
    if SECRET.encode() in h.raw:
        yield "the journal holds it"


def nothing_irreversible_twice(h: History) -> Iterator[str]:
    """What may not be safe to repeat is repeated only when somebody says so, or by `retry`."""
    for shown, step in h.steps.items():
        if not step.get("secrets"):
            continue
        count = sum(o["step"] == shown and o["purpose"] in ("run", "retry") for o in h.starts())
        agains = sum(f"step '{shown}' was cut off" in life.refused for life in h.told.lives)
        retries = step.get("retry", {}).get("attempts", 0)
        fixes = 1 if "autofix" in step else 0
        moved = 2  # run again on a quiet tree
        if h.told.lives[0].code is None and count > (1 + agains) * (1 + retries) + fixes + moved:
            yield f"{shown} ran {count} times, {agains} times on request"


def the_exit_code_is_the_rule(h: History) -> Iterator[str]:
    """The first that applies of signal, 6, 3, 5, 4, 1, 7; else 0."""
    last = h.of(RunFinished)[-1]
    lenient = {shown for shown in h.steps if _lenient(h, shown)}
    codes = {o.exit_code for shown, o in h.outcomes.items() if shown not in lenient}
    bad = any(o.status is Status.FAILED for shown, o in h.outcomes.items() if shown not in lenient)
    expected = next((code for code in (6, 3, 5, 4, 1) if code in codes), 0)
    if (last.exit_code in (0, 7)) != (expected == 0 and not bad) or (
        expected and last.exit_code != expected
    ):
        yield f"exit {last.exit_code}, and the steps ask for {expected}"
    if (last.exit_code == 7) != bool(last.uncommitted) and last.exit_code in (0, 7):
        yield f"exit {last.exit_code} with {last.uncommitted} left"


def _lenient(h: History, shown: str) -> bool:
    parts = shown.split("/")
    return any(
        h.steps.get("/".join(parts[: n + 1]), {}).get("allow_failure") for n in range(len(parts))
    )


def lives_are_numbered(h: History) -> Iterator[str]:
    """One first event, and one more for each life."""
    if len(h.of(RunStarted)) != 1:
        yield f"{len(h.of(RunStarted))} first events"
    lives = [one.life for one in h.of(RunResumed)]
    if lives != list(range(2, 2 + len(lives))):
        yield f"lives {lives}"
    if h.code not in OVER:
        yield f"it ended with {h.code}"


def as_uninterrupted(h: History, twin: History) -> Iterator[str]:
    """A run that was killed and resumed ends as one that was not."""
    kills = sum(life.killed for life in h.told.lives)
    if h.code != twin.code:
        yield f"exit {h.code}, uninterrupted {twin.code}"
    for shown in h.outcomes.keys() | twin.outcomes.keys():
        mine, other = h.outcomes.get(shown), twin.outcomes.get(shown)
        if mine is None or other is None or mine.status != other.status:
            yield f"{shown}: {mine and mine.status}, uninterrupted {other and other.status}"
    files, others = h.tree.scan(), twin.tree.scan()
    if files != others:
        yield f"the tree differs: {sorted(dict(files.items() ^ others.items()))}"
    paid, once = (sum(not r.unknown for r in one.of(ModelResponded)) for one in (h, twin))
    # A call that was cut off is answered as such: its model asks once more.
    if paid > once + 2 * kills:
        yield f"{paid} requests were answered, uninterrupted {once}, after {kills} kills"


RULES = (
    no_step_is_lost,
    needs_come_first,
    blocked_means_blocked,
    commands_judge,
    mends_are_judged_by_commands,
    nothing_starts_after_an_outage,
    finished_is_finished,
    attempts_are_bounded,
    failures_are_undone,
    git_does_it_once,
    ended_means_ended,
    money_is_kept,
    main_is_appended,
    the_users_work_is_kept,
    secrets_stay_secret,
    nothing_irreversible_twice,
    the_exit_code_is_the_rule,
    lives_are_numbered,
)
