"""A recorded run is replayed by the vendors' real clients, without network and key."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from forking import forked
from provider import Answer, Ask, Call, Fault, Reply, Tokens, serving
from scratch import CALC, UNITTEST, make, with_remote

from runner import Options, ReplayError, Report, UsageError
from runner.api import execute
from runner.cassette.files import read
from runner.cassette.names import Names
from runner.cassette.places import comparable
from runner.cassette.wire import RecordingTransport, ReplayingTransport
from runner.errors import NotGranted
from runner.events import ModelResponded
from runner.historyfile import recall
from runner.models.transport import Caller, RequestLimits, shared_client
from runner.models.vendors import Wiring, open_vendor
from runner.plan import Price, Provider
from runner.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parent / "golden" / "cassette"
AGENTS = Path(__file__).parent.parent / "agents"
TREE = {"calc.py": CALC.replace("a + b", "a - b"), "state.txt": "bad\n"}
WORKFLOW = f"""
name: mine
steps:
  - id: spell
    run: "date; echo took 0.1$RANDOM s in $PWD; grep good state.txt"
    fix: {{ agent: fixer, attempts: 1, write: [state.txt] }}
    escalate: false
  - id: test
    run: {UNITTEST}
    fix: {{ agent: fixer, attempts: 1, write: [calc.py] }}
    escalate: true
"""
VENDORS = {
    "anthropic": ("anthropic:claude-opus-5-5", "anthropic:claude-haiku-5-5"),
    "responses": ("openai:gpt-6.1-sol", "openai:gpt-6-luna"),
    "chat": ("openai-chat:gpt-6.1-sol", "openai-chat:gpt-6-luna"),
    "google": ("google:gemini-2.5-pro", "google:gemini-2.5-flash"),
    "declared": ("local:big", "local:small"),
}


def mends(ask: Ask) -> Reply:
    """The cheap model mends the spelling and gives up on the test, which main mends."""
    tokens = Tokens(input=1000 + len(ask.raw) // 100, cache_read=500, output=40)
    return Answer(calls=_calls(ask), tokens=tokens)


def _calls(ask: Ask) -> tuple[Call, ...]:
    if "done_already" in ask.text:
        return (Call("done", {"summary": "It is mended."}),)
    if "`spell`" in ask.text:
        edit = {"path": "state.txt", "old_text": "bad", "new_text": "good"}
        return (Call("edit_file", edit), Call("grep", {"pattern": "done_already|good"}))
    if "Packet" not in ask.text:
        return (Call("cannot", {"reason": "This is not mine."}),)
    edit = {"path": "calc.py", "old_text": "a - b", "new_text": "a + b  # done_already"}
    return (Call("edit_file", edit), Call("check", {}))


class Bench:
    """A repository, and runs in it that are recorded and replayed."""

    def __init__(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.scratch = world, make(world)
        self.cassette = world / "cassette"
        self._patch = monkeypatch
        self.prepare()
        self.scratch.write("notes.txt", "done_already\n")
        self.scratch.commit_all()

    def prepare(self, files: dict[str, str] | None = None) -> None:
        """Put the tree to where the work begins."""
        for name, text in (files or TREE).items():
            self.scratch.write(name, text)

    async def record(
        self,
        script: Callable[[Ask], Reply] = mends,
        workflow: str = WORKFLOW,
        vendor: str = "anthropic",
        **options: Any,
    ) -> Report:
        """Run with a provider on loopback, and record it."""
        main, cheap = VENDORS[vendor]
        if vendor == "chat":  # a server of one's own has no price that anybody knows
            options["prices"] = {"openai-chat:*": Price(Decimal(1), Decimal(5))}
        if vendor == "declared":
            options["prices"] = {"local:*": Price(Decimal(1), Decimal(5), Decimal("0.1"))}
        with serving(script) as provider:
            self.provider = provider
            for name, value in provider.environ().items():
                self._patch.setenv(name, value)
            if vendor == "declared":
                local = Provider(
                    name="local", base_url=provider.openai_url, key_env="OPENAI_API_KEY"
                )
                options["providers"] = {"local": local}
            report = await self.scratch.run(
                workflow, models={"main": main, "cheap": cheap}, record=self.cassette, **options
            )
        for name in provider.environ():
            self._patch.delenv(name)
        return report

    async def replay(self, workflow: str = WORKFLOW, **options: Any) -> Report:
        """Run it again from the start; the provider is gone, and so are the keys."""
        self.prepare()
        with anyio.fail_after(90):
            return await self.scratch.run(workflow, replay=self.cassette, **options)

    def requests(self) -> list[str]:
        """Names of the recorded requests."""
        return sorted(path.name for path in (self.cassette / "requests").iterdir())

    def change(self, name: str, old: str, new: str) -> None:
        """Change a file of the cassette."""
        path = self.cassette / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def all_bytes(self) -> bytes:
        """Everything that is in the cassette."""
        return b"\n".join(p.read_bytes() for p in self.cassette.rglob("*") if p.is_file())


@pytest.fixture
def bench(world: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(world, monkeypatch)


def told(report: Report) -> dict[str, Any]:
    """What must be the same in a replay."""
    return {
        "ends": (report.status, report.exit_code, report.cost_usd, report.uncommitted),
        "models": report.models,
        "prefix": report.prefix,
        "steps": [
            (step.id, step.status, step.rung, step.reason, step.cost_usd, step.verified)
            for step in report.steps
        ],
        "attempts": [
            (one.number, one.rung, one.model, one.verdict, one.reason, one.requests, one.files)
            for step in report.steps
            for one in step.attempts
        ],
        "ledger": [(row.step, row.role, row.served, row.usage) for row in report.ledger],
    }


def first_line(error: pytest.ExceptionInfo[Any]) -> str:
    return str(error.value).partition("\n")[0].partition(": ")[2]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_replay_is_the_same_run_without_network_and_key(bench: Bench, vendor: str) -> None:
    recorded = await bench.record(vendor=vendor)
    mended = bench.scratch.read("calc.py")
    assert [step.rung for step in recorded.steps] == ["subagent", "main"]
    assert recorded.cost_usd
    assert not recorded.replayed
    asked = len(bench.provider.asks)
    replayed = await bench.replay()
    assert told(replayed) == told(recorded)
    assert bench.scratch.read("calc.py") == mended
    assert replayed.replayed
    assert len(bench.requests()) == asked == 5


async def test_what_is_recorded_can_be_read_and_holds_no_key_and_no_host(bench: Bench) -> None:
    await bench.record()
    assert bench.requests() == [
        "main-1-001.json",
        "main-1-002.json",
        "spell-cheap-1-001.json",
        "spell-cheap-1-002.json",
        "test-cheap-1-001.json",
    ]
    file = json.loads((bench.cassette / "requests/main-1-002.json").read_text())
    assert [file[name] for name in ("step", "role")] == ["test", "main"]
    assert file["request"]["path"] == "/v1/messages"
    assert file["request"]["body"]["model"] == "claude-opus-5-5"
    assert file["answers"][0]["status"] == 200
    first = bench.provider.asks[0].body["messages"][0]["content"][0]["text"]
    kept = json.loads((bench.cassette / "requests/spell-cheap-1-001.json").read_text())
    lines = kept["request"]["body"]["messages"][0]["content"][0]["text"]["⟦lines⟧"]
    assert [line for line in lines if "⟦" not in line] == [
        line
        for line in first.split("\n")
        if str(bench.scratch.root) not in line and "untrusted-" not in line
    ]
    everything = bench.all_bytes()
    for gone in (b"test-key", bench.provider.url.encode(), str(bench.world).encode(), b"127.0.0.1"):
        assert gone not in everything
    run_id = bench.scratch.events[0].run_id  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    assert str(run_id).encode() not in everything  # pyright: ignore[reportUnknownArgumentType]


async def test_a_replay_may_be_anywhere_and_what_a_model_quotes_is_there_too(bench: Bench) -> None:
    root = str(bench.scratch.root)

    def script(ask: Ask) -> Reply:
        reply = mends(ask)
        assert isinstance(reply, Answer)
        calls = (
            replace(call, arguments={**call.arguments, "new_text": f"good in {root}"})
            if isinstance(call.arguments, dict) and call.arguments.get("new_text") == "good"
            else call
            for call in reply.calls
        )
        return replace(reply, calls=tuple(calls))

    recorded = await bench.record(script)
    assert bench.scratch.read("state.txt") == f"good in {root}\n"
    elsewhere = bench.world / "some" / "where"
    elsewhere.mkdir(parents=True)
    bench.scratch = make(elsewhere)
    bench.scratch.write("notes.txt", "done_already\n")
    assert told(await bench.replay()) == told(recorded)
    assert bench.scratch.read("state.txt") == f"good in {bench.scratch.root}\n"


async def test_recording_the_same_twice_makes_requests_that_compare_equal(bench: Bench) -> None:
    await bench.record()
    first = read(bench.cassette)
    shutil.rmtree(bench.cassette)
    bench.prepare()
    await bench.record()
    second = read(bench.cassette)
    for one, other in zip(first.tracks, second.tracks, strict=True):
        assert [comparable(take.request) for take in one.takes] == [
            comparable(take.request) for take in other.takes
        ]
    # What a program printed is kept as it was, times and all.
    assert first.tracks[1].takes[0].request != second.tracks[1].takes[0].request


async def test_changed_instructions_of_an_agent_fail_with_a_readable_diff(bench: Bench) -> None:
    await bench.record()
    agent = (AGENTS / "fixer.md").read_text()
    assert "the smallest change" in agent
    bench.scratch.write(".runner/agents/fixer.md", agent.replace("the smallest", "a small"))
    workflow = WORKFLOW.replace("steps:", "overrides: [fixer]\nsteps:")
    with pytest.raises(ReplayError) as error:
        await bench.replay(workflow)
    shown = str(error.value).replace(str(bench.world), "/w")
    golden = GOLDEN / "changed_instructions.txt"
    assert shown + "\n" == golden.read_text()


async def test_a_changed_prompt_stops_the_run_and_undoes_what_was_mended(bench: Bench) -> None:
    await bench.record()
    bench.change("requests/spell-cheap-1-002.json", "What you may change", "What may be changed")
    with pytest.raises(ReplayError) as error:
        await bench.replay()
    assert first_line(error) == (
        "step `spell`, attempt 2, role `cheap` asks something else than was recorded, "
        "at `body.messages[0].content[0].text`"
    )
    assert bench.scratch.read("state.txt") == "bad\n"
    ended = bench.scratch.events[-1]
    assert ended.exit_code == 1  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def test_another_output_of_a_command_is_told_before_the_request_that_shows_it(
    bench: Bench,
) -> None:
    await bench.record()
    workflow = WORKFLOW.replace("grep good state.txt", "grep good state.txt || exit 3")
    with pytest.raises(ReplayError) as error:
        await bench.replay(workflow)
    assert "at `body.messages[0].content[0].text`" in first_line(error)
    diff = error.value.diff
    assert "-   | Result: exit code 1\n" in diff
    assert "+   | Result: exit code 3\n" in diff
    told_before = diff.partition("before that, commands ended otherwise:\n")[2]
    assert [line[0] for line in told_before.split("\n")] == ["-", "+"]
    assert "exit_code=3" in told_before


async def test_a_word_more_in_a_command_s_output_is_a_difference(bench: Bench) -> None:
    await bench.record()
    with pytest.raises(ReplayError, match="asks something else"):
        await bench.replay(WORKFLOW.replace("echo took", "printf 'it\\n'; echo took"))


async def test_a_changed_check_that_nobody_was_asked_about_is_told_at_the_end(bench: Bench) -> None:
    workflow = WORKFLOW + '  - {id: last, needs: [], run: "true"}\n'
    await bench.record(workflow=workflow)
    bench.change(
        "commands.jsonl", '"command": "true", "exit_code": 0', '"command": "true", "exit_code": 9'
    )
    bench.change("decisions.jsonl", '"verified": true', '"verified": false')
    with pytest.raises(ReplayError) as error:
        await bench.replay(workflow)
    assert first_line(error) == "the run went otherwise than it was recorded"
    assert "- step=last purpose=run command=true exit_code=9 timed_out=false" in error.value.diff
    assert "+ step=last purpose=run command=true exit_code=0 timed_out=false" in error.value.diff
    assert 'step=test status=succeeded rung=main reason="" verified=true' in error.value.diff


async def test_more_requests_than_were_recorded_are_not_made_up(bench: Bench) -> None:
    await bench.record()
    bench.change("cassette.json", '"main-1": 2', '"main-1": 1')
    with pytest.raises(ReplayError) as error:
        await bench.replay()
    assert first_line(error) == (
        "step `test`, attempt 3, role `main` makes request 2, where 1 were recorded"
    )
    assert "its end:" in error.value.diff


async def test_a_conversation_that_was_not_recorded_is_not_made_up(bench: Bench) -> None:
    await bench.record()
    bench.change("cassette.json", '"main-1": 2,', "")
    with pytest.raises(ReplayError) as error:
        await bench.replay()
    assert first_line(error) == (
        "step `test`, attempt 3, role `main` asks, where nothing was recorded"
    )


async def test_fewer_requests_than_were_recorded_are_told(bench: Bench) -> None:
    await bench.record()
    requests = bench.cassette / "requests"
    shutil.copy(requests / "main-1-002.json", requests / "main-1-003.json")
    shutil.copy(requests / "main-1-001.json", requests / "other-cheap-1-001.json")
    bench.change("cassette.json", '"main-1": 2,', '"main-1": 3, "other-cheap-1": 1,')
    with pytest.raises(ReplayError) as error:
        await bench.replay()
    assert error.value.diff.split("\n") == [
        "requests that were recorded and not made:",
        "requests/main-1-003.json",
        "requests/other-cheap-1-001.json",
    ]


@pytest.mark.slow
async def test_failed_tries_are_replayed_without_waiting(bench: Bench) -> None:
    faults: list[Reply] = [
        Fault(429, headers={"retry-after-ms": "1"}),
        Fault(529, headers={"retry-after": "0"}),
        Fault(break_off="reset"),
    ]

    def script(ask: Ask) -> Reply:
        return faults.pop(0) if faults and ask.number > 1 else mends(ask)

    limits_free = await bench.record(script)
    file = "requests/spell-cheap-1-002.json"
    answers = json.loads((bench.cassette / file).read_text())["answers"]
    assert [one.get("status", one.get("error")) for one in answers] == [429, 529, "ReadError", 200]
    # So long that the test would not end if anybody waited.
    bench.change(file, '"retry-after-ms": "1"', '"retry-after": "59"')
    bench.change(file, '"retry-after": "0"', '"retry-after": "58"')
    replayed = await bench.replay()
    assert told(replayed)["ledger"] == told(limits_free)["ledger"]
    assert replayed.exit_code == limits_free.exit_code


async def test_a_provider_that_fails_for_good_does_so_in_the_replay(bench: Bench) -> None:
    recorded = await bench.record(lambda ask: Fault(401))
    replayed = await bench.replay()
    assert recorded.exit_code == 6
    assert told(replayed) == told(recorded)


PARALLEL = """
name: parallel
steps:
  - {id: a, needs: [], run: "sleep 0.1; grep good a.txt", fix: {agent: fixer, write: [a.txt]}}
  - {id: b, needs: [], run: "grep good b.txt", fix: {agent: fixer, write: [b.txt]}}
  - {id: c, needs: [], run: "grep good c.txt", fix: {agent: fixer, write: [c.txt]}}
"""


async def test_steps_side_by_side_are_replayed_in_any_order(bench: Bench) -> None:
    def script(ask: Ask) -> Reply:
        name = next(one for one in "abc" if f"{one}.txt" in ask.text)
        if "Edited" in ask.text:
            return Answer(calls=(Call("done", {"summary": "ok"}),))
        edit = {"path": f"{name}.txt", "old_text": "bad", "new_text": "good"}
        return Answer(calls=(Call("edit_file", edit),), delay=0.05 * (ask.number % 3))

    tree = {f"{name}.txt": "bad\n" for name in "abc"}
    bench.prepare(tree)
    recorded = await bench.record(script, PARALLEL, jobs=3)
    assert len(bench.requests()) == 6
    for jobs in (1, 3):
        bench.prepare(tree)
        replayed = await bench.scratch.run(PARALLEL, replay=bench.cassette, jobs=jobs)
        assert told(replayed)["steps"] == told(recorded)["steps"]
        assert replayed.cost_usd == recorded.cost_usd


def canary_in_all_forms(secret: str) -> list[bytes]:
    plain = secret.encode()
    return [plain, base64.b64encode(plain), json.dumps(secret)[1:-1].encode(), plain.hex().encode()]


async def test_no_secret_is_in_any_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    granted, around = 'Gr4nted-"quoted"-canary-0001', "Ar0und-canary-0000000000002"
    monkeypatch.setenv("FORGE_TOKEN", granted)
    monkeypatch.setenv("SOME_PASSWORD", around)
    workflow = f"""
        name: leaky
        secrets: [FORGE_TOKEN]
        inputs: {{ what: {{ type: string, default: "" }} }}
        steps:
          - id: leak
            run: >-
              echo "$FORGE_TOKEN"; printf %s "$FORGE_TOKEN" | base64 -w0; echo {around};
              grep good state.txt
            secrets: [FORGE_TOKEN]
            fix: {{ agent: fixer, attempts: 1 }}
            escalate: false
          - id: ask
            needs: []
            prompt: ${{{{ inputs.what }}}}
        """
    seen: list[str] = []

    def script(ask: Ask) -> Reply:
        seen.append(ask.text)
        if "Do it" in ask.text:
            body = {
                "error": {"type": "invalid_request_error", "message": f"bad: {granted} {around}"}
            }
            return Fault(400, body)
        return Answer(text=f"I saw {around}.", calls=(Call("cannot", {"reason": granted}),))

    inputs = {"what": f"Do it with {around} and {json.dumps(granted)}."}
    await bench.record(script, workflow, secrets=("FORGE_TOKEN",), inputs=inputs)
    assert seen
    assert not any(around in text for text in seen)  # it came in by answers, errors and output only
    everything = bench.all_bytes()
    assert b"***" in everything
    for secret in (granted, around):
        for form in canary_in_all_forms(secret):
            assert form not in everything


async def test_what_a_workflow_must_be_granted_is_in_no_cassette(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_TOKEN", "a-token-of-the-forge-1")
    workflow = "secrets: [FORGE_TOKEN]\nsteps: [{id: a, run: 'true', secrets: [FORGE_TOKEN]}]\n"
    await bench.record(workflow=workflow, secrets=("FORGE_TOKEN",))
    with pytest.raises(NotGranted):
        await bench.replay(workflow)
    assert (await bench.replay(workflow, secrets=("FORGE_TOKEN",))).ok


class Taken:
    """Keeps what passes the wire, and gives it back."""

    def __init__(self) -> None:
        self.tries: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def keep(self, who: Caller | None, request: dict[str, Any], answer: dict[str, Any]) -> None:
        self.tries.append((request, answer))

    def answer(self, who: Caller | None, request: dict[str, Any]) -> dict[str, Any]:
        asked, answer = self.tries.pop(0)
        assert asked == request
        return json.loads(json.dumps(answer))


@pytest.mark.parametrize(
    ("reply", "form"),
    [
        (Answer(text="hello"), "body"),
        (Fault(200, b"no JSON at all"), "text"),
        (Fault(500, b"<html>\xff\xfe</html>"), "base64"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_kind_of_answer_comes_back_as_it_was(
    world: Path, reply: Reply, form: str, *, stream: bool
) -> None:
    (world / "workflow.yaml").write_text("steps: [{id: a, run: 'true'}]\n")
    prepared = prepare("workflow.yaml", options=Options(), cwd=world)
    names, taken = Names(prepared, "run-1"), Taken()
    body: dict[str, Any] = {"model": "m", "messages": [], "stream": stream}
    with serving(lambda ask: reply) as provider:
        url = f"{provider.url}/v1/messages"
        recording = RecordingTransport(httpx2.AsyncClient, 1 << 20, names, taken)
        async with httpx2.AsyncClient(transport=recording) as client:
            first = await client.post(url, json=body)
    streamed = stream and isinstance(reply, Answer)
    assert [name for name in taken.tries[0][1] if name not in ("status", "headers")] == [
        "text" if streamed else form
    ]
    async with httpx2.AsyncClient(transport=ReplayingTransport(names, taken)) as client:
        again = await client.post(url, json=body)
    assert (again.status_code, again.headers["content-type"]) == (
        first.status_code,
        first.headers["content-type"],
    )
    assert (
        again.json() == first.json()
        if form == "body" and not streamed
        else again.content == first.content
    )


async def test_a_vendor_s_client_takes_the_key_that_stands_in_for_one() -> None:
    limits = RequestLimits()
    async with shared_client(limits) as client:
        wiring = Wiring(client, limits, {"DEEPSEEK_API_KEY": "replayed"}, {})
        assert open_vendor("deepseek:deepseek-chat", wiring, cache_key="").wired


def refs_of(remote: Path) -> bytes:
    return subprocess.check_output(["git", "-C", str(remote), "show-ref"])


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


async def test_a_replay_pushes_nothing(bench: Bench) -> None:
    remote = with_remote(bench.scratch)
    workflow = WORKFLOW + "  - {id: commit, commit: {}}\n  - {id: push, push: {}}\n"
    recorded = await bench.record(workflow=workflow)
    assert recorded.exit_code == 0
    refs = refs_of(remote)
    bench.scratch.git("reset", "--hard", "HEAD~1")
    replayed = await bench.replay(workflow)
    assert replayed.exit_code == 0
    assert refs_of(remote) == refs


async def test_the_caller_of_a_replay_may_say_otherwise_and_is_told_what_that_changes(
    bench: Bench,
) -> None:
    await bench.record()
    with pytest.raises(ReplayError, match=r"at `body\.model`"):
        await bench.replay(models={"cheap": "anthropic:claude-sonnet-5"})


async def test_a_model_or_an_input_that_the_workflow_has_changed_is_noticed(bench: Bench) -> None:
    main, cheap = VENDORS["anthropic"]
    workflow = f"""
        name: asks
        models: {{ main: "{main}" }}
        inputs: {{ what: {{ type: string, default: "Do this." }} }}
        steps: [{{ id: ask, prompt: "${{{{ inputs.what }}}}" }}]
        """
    with serving(lambda _: Answer(calls=(Call("done", {"summary": "ok"}),))) as provider:
        environ = {**os.environ, **provider.environ()}
        file = bench.scratch.root.parent / "workflow.yaml"
        file.write_text(dedent(workflow))
        options = Options(state_dir=bench.world / "state", record=bench.cassette)
        await execute(file, options=options, cwd=bench.scratch.root, environ=environ)
    await bench.replay(workflow)
    for old, new, where in ((main, cheap, "body.model"), ("Do this", "Do that", "body.messages")):
        with pytest.raises(ReplayError, match=f"at `{where}"):
            await bench.replay(workflow.replace(old, new))


async def test_inputs_steps_and_own_prices_are_those_of_the_record(bench: Bench) -> None:
    workflow = """
        name: asks
        inputs: { what: { type: string } }
        steps:
          - {id: ask, prompt: "${{ inputs.what }}"}
          - {id: other, needs: [], run: "false"}
        """
    seen: list[Ask] = []

    def script(ask: Ask) -> Reply:
        seen.append(ask)
        return Answer(calls=(Call("done", {"summary": "ok"}),))

    prices = {"anthropic:claude-opus-5-5": Price(Decimal(1000), Decimal(1000))}
    recorded = await bench.record(
        script, workflow, inputs={"what": "@Ada: do it."}, steps=("ask",), prices=prices,
        budget_usd=Decimal(900),
    )  # fmt: skip
    assert "@Ada: do it." in seen[0].text
    replayed = await bench.replay(workflow, input_files=True)
    assert told(replayed) == told(recorded)
    assert replayed.cost_usd == Decimal("0.12")
    assert [step.id for step in replayed.steps] == ["ask"]
    assert replayed.budget_usd == 900


async def test_a_replay_teaches_nothing_about_models(bench: Bench, world: Path) -> None:
    await bench.record()
    learned = len(recall(world / "state")[0])
    assert learned
    await bench.replay()
    assert len(recall(world / "state")[0]) == learned


@pytest.mark.slow
async def test_what_was_learned_before_changes_no_request(bench: Bench) -> None:
    for _ in range(3):
        await bench.record()
        shutil.rmtree(bench.cassette)
        bench.prepare()
    recorded = await bench.record()
    shutil.rmtree(bench.world / "state")
    assert told(await bench.replay()) == told(recorded)


async def test_scripted_models_are_recorded_without_a_wire(bench: Bench) -> None:
    script = """
        rules:
          - turns:
              - { call: edit_file, with: { path: state.txt, old_text: bad, new_text: good } }
              - done: It is mended.
        """
    workflow = WORKFLOW.partition("  - id: test")[0]
    models = bench.scratch.script(script)
    recorded = await bench.scratch.run(workflow, models=models, record=bench.cassette)
    assert bench.requests() == []
    again = told(await bench.replay(workflow, models=models))
    # A scripted model counts the bytes that it reads, and the commands' times are among them.
    exact = ("ends", "steps", "attempts")
    assert [again[part] for part in exact] == [told(recorded)[part] for part in exact]
    models = bench.scratch.script("rules: [{done: It is mended.}]")
    with pytest.raises(ReplayError) as error:
        await bench.replay(workflow, models=models)
    assert "- step=spell status=succeeded" in error.value.diff
    assert "+ step=spell status=failed" in error.value.diff


async def test_agents_do_not_see_a_cassette_in_the_tree(bench: Bench) -> None:
    def script(ask: Ask) -> Reply:
        if ask.number == 1:
            calls = (Call("grep", {"pattern": "done_already"}), Call("list", {"path": "tests"}))
            return Answer(calls=calls)
        return Answer(calls=(Call("done", {"summary": "ok"}),))

    workflow = "steps: [{id: ask, prompt: Look around.}]\n"
    bench.cassette = bench.scratch.root / "tests/recorded"
    bench.scratch.write("tests/a.txt", "done_already\n")
    await bench.record(script, workflow)
    assert (bench.cassette / "cassette.json").exists()
    await bench.replay(workflow)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("cassette.json", None, "there is no cassette"),
        ("cassette.json", "{", "cassette.json is damaged: Expecting"),
        ("cassette.json", "[]", "cassette.json is damaged: no JSON object"),
        ("cassette.json", "{}", "cassette.json is damaged: `format` is missing"),
        ("cassette.json", '{"format": 2}', "written by a newer release of runner (format 2)"),
        ("cassette.json", '{"format": 1}', "cassette.json is damaged: `requests` is missing"),
        ("cassette.json", '{"format": 1, "requests": {"a": "b"}}', "counts something else"),
        ("cassette.json", '{"format": 1, "requests": {}}', "`day` is no date"),
        (
            "requests/main-1-002.json",
            None,
            "requests/main-1-002.json is damaged: the file is missing",
        ),
        ("requests/main-1-001.json", "{}", "`request` or `answers` is missing"),
        ("requests/main-1-001.json", '{"request": {}, "answers": [{}]}', "`answers` is missing"),
        ("commands.jsonl", "{}\n{\n", "commands.jsonl:2 is damaged"),
        ("decisions.jsonl", "[]\n", "decisions.jsonl:1 is damaged: no JSON object"),
        ("decisions.jsonl", None, "decisions.jsonl is damaged: the file is missing"),
    ],
)
async def test_a_damaged_cassette_is_refused_before_anything_runs(
    bench: Bench, name: str, text: str | None, said: str
) -> None:
    if not SAMPLE.exists():
        pytest.fail("the committed example's cassette is gone")
    shutil.copytree(SAMPLE, bench.cassette)
    file = bench.cassette / name
    if name.startswith("requests"):
        bench.change("cassette.json", '"requests": {', '"requests": {"main-1": 2, ')
        (bench.cassette / "requests/main-1-001.json").write_text(
            '{"request": {}, "answers": [{"status": 200}]}'
        )
    if text is not None:
        file.write_text(text)
    else:
        file.unlink(missing_ok=True)
    with pytest.raises(UsageError) as error:
        await bench.replay()
    assert said in error.value.message
    assert error.value.hint
    assert bench.scratch.events == []


SAMPLE = Path(__file__).parent.parent / "examples" / "09_cassette"


async def test_a_directory_with_something_in_it_is_not_recorded_into(bench: Bench) -> None:
    bench.cassette.mkdir()
    (bench.cassette / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="there is something in it already") as error:
        await bench.scratch.run(WORKFLOW, record=bench.cassette)
    assert "rm -r" not in error.value.hint, "it is no cassette"
    with pytest.raises(UsageError, match="either recorded or replayed"):
        await bench.scratch.run(WORKFLOW, record=bench.world / "x", replay=bench.cassette)
    for place in ("mine.txt", "mine.txt/below"):  # nothing is paid for what cannot be kept
        with pytest.raises(UsageError, match=f"--record .*{place}: "):
            await bench.scratch.run(WORKFLOW, record=bench.cassette / place)
    assert bench.scratch.events == []


async def test_an_interrupted_run_records_nothing(bench: Bench) -> None:
    workflow = "steps: [{id: wait, run: 'sleep 60'}]\n"
    with anyio.move_on_after(0.5):
        await bench.scratch.run(workflow, record=bench.cassette)
    assert not bench.cassette.exists()
    assert [path for path in bench.world.iterdir() if path.name.startswith(".cassette")] == []


async def test_a_run_that_is_told_to_end_records_nothing_and_says_so(bench: Bench) -> None:
    (bench.world / "workflow.yaml").write_text("steps: [{id: wait, run: 'sleep 60'}]\n")
    command = [sys.executable, "-m", "runner", "exec", str(bench.world / "workflow.yaml")]
    more = ("--record", str(bench.cassette), "-C", str(bench.scratch.root))
    async with await anyio.open_process([*command, *more], stdout=None) as process:
        assert process.stderr is not None
        said = ""
        async for piece in process.stderr:
            if "sleep 60" in (said := said + piece.decode()) and "interrupted" not in said:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert "runner: interrupted: nothing was recorded" in said
    assert not bench.cassette.exists()


NO_SOCKET = """
import sys
from pathlib import Path

def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise SystemExit(f"the network was tried: {event} {args}")

sys.addaudithook(refuse)
from runner import Options, run_sync
report = run_sync(Path(sys.argv[1]), cwd=sys.argv[2], options=Options(replay=Path(sys.argv[3])))
print(report.exit_code, report.cost_usd, report.replayed)
"""


@pytest.mark.slow
async def test_a_replay_never_opens_a_socket(bench: Bench) -> None:
    recorded = await bench.record()
    bench.prepare()
    workflow = bench.world / "workflow.yaml"
    arguments = (str(workflow), str(bench.scratch.root), str(bench.cassette))
    done = python("-c", NO_SOCKET, *arguments)
    assert done.stdout == f"{recorded.exit_code} {recorded.cost_usd} True\n", done.stderr


@pytest.mark.slow
async def test_the_command_line_replays_and_fails_with_code_1(bench: Bench) -> None:
    await bench.record()
    workflow = str(bench.world / "workflow.yaml")

    def replay(*more: str) -> subprocess.CompletedProcess[str]:
        bench.prepare()
        options = ("--replay", str(bench.cassette), "-C", str(bench.scratch.root), *more)
        return forked("exec", workflow, *options, cwd=bench.world, environ=os.environ)

    done = replay("--json")
    assert done.returncode == 7, done.stderr
    report = json.loads(done.stdout)
    assert report["replayed"]
    assert not report["scripted"]
    assert ", replayed\n" in done.stderr
    assert "replayed: paid when it was recorded" in done.stderr
    assert "runner: as it was recorded in " in done.stderr
    bench.change("requests/test-cheap-1-001.json", "Mend what it reports", "Mend that")
    files = {kind: bench.world / f"out.{kind}" for kind in ("report", "junit")}
    done = replay("--json", *(f"--{kind}={file}" for kind, file in files.items()))
    assert done.returncode == 1
    # How it went otherwise is told, with the exit code that the process has.
    report = json.loads(done.stdout)
    assert (report["status"], report["exit_code"]) == ("failed", 1)
    assert json.loads(files["report"].read_text()) == report
    assert "not the request that was recorded" in files["junit"].read_text()
    assert "runner: replay of " in done.stderr
    assert "-   | Step `test` of a workflow fails. Mend that; attempt 1 of 1." in done.stderr
    assert "Traceback" not in done.stderr.partition("runner: replay of ")[2]


async def test_a_client_with_a_connection_of_its_own_is_not_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYDANTIC_AI_GATEWAY_API_KEY", "pylf_v1_us_0000000000000000000000000000000")
    report = await bench.scratch.run(
        WORKFLOW,
        models={"cheap": "gateway/anthropic:claude-haiku-5-5"},
        prices={"gateway/anthropic:*": Price(Decimal(1), Decimal(1))},
        record=bench.cassette,
    )
    assert report.exit_code != 0
    assert "neither recorded nor replayed" in str(report.steps)
    rows = [event for event in bench.scratch.events if isinstance(event, ModelResponded)]
    assert rows == []
