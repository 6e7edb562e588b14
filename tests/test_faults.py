"""Every fault of a provider, by table and by seed, lands where the ladder says, for each vendor."""

from __future__ import annotations

import os
import socket
from itertools import product
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import pytest
from faulted import (
    MAIN_NAMES,
    MENDED,
    World,
    broken_promises,
    children,
    play,
    play_all,
    play_seeds,
    workflow,
)
from faults import CANNOT, CASES, MEND, SOON, VENDORS, Case
from forking import Forked
from provider import Ask, Fault, Reply, in_turn, serving

from runner.events import (
    AttemptFinished,
    CommandFinished,
    Event,
    ModelAsked,
    ModelResponded,
    ModelRetried,
)
from runner.outcome import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from faults import Vendor

pytestmark = [
    pytest.mark.timeout(120),
    # Vendors' libraries warn of the nonsense that they are sent.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore:Failed to extract usage"),
]

SHARED: list[tuple[Case, Vendor]] = []
for number, case in enumerate(CASES):
    SHARED.append((case, VENDORS[number % len(VENDORS)]))
QUICK = tuple(one for one in SHARED if not one[0].patient and one[0].seconds is None)[::2]
"""Every second one: all of them, at every vendor, take minutes (`slow`)."""
PATIENT = tuple(one for one in SHARED if one[0].patient or one[0].seconds is not None)


def named(one: tuple[Case, Vendor] | str) -> str:
    return one if isinstance(one, str) else f"{one[0].name}-{one[1]}"


@pytest.mark.parametrize("chosen", QUICK, ids=named)
async def test_a_fault_lands_in_its_class(world: Path, chosen: tuple[Case, Vendor]) -> None:
    case, vendor = chosen
    before = children()  # what other tests of this process left
    played = await play(case, vendor, world / "case")
    assert played.problems == []
    assert children() == before


@pytest.mark.slow
async def test_faults_that_take_patience_land_in_their_classes(world: Path) -> None:
    played = await play_all(PATIENT, world)
    assert [(one.case.name, one.vendor, one.problems) for one in played if one.problems] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("vendor", VENDORS)
async def test_every_fault_at_every_vendor(world: Path, vendor: Vendor) -> None:
    number = VENDORS.index(vendor)
    chosen = [*product(CASES, VENDORS[number : number + 1])]
    played = await play_all(chosen, world)
    assert [(one.case.name, one.problems) for one in played if one.problems] == []


@pytest.mark.slow
async def test_random_faults_break_no_promise(world: Path) -> None:
    assert await play_seeds(range(16), world) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_many_random_faults_break_no_promise(world: Path) -> None:
    assert await play_seeds(range(1000, 1200), world) == []


# -- more than one request's fault -----------------------------------------------------------------


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_run_that_its_provider_failed_is_resumed(world: Path, vendor: Vendor) -> None:
    repo, healthy = World(world / "w", vendor), False

    def script(ask: Ask) -> Reply:
        return MEND if healthy else Fault(529, headers=SOON)

    with serving(repo.hearing(script)) as provider:
        report = await repo.run(workflow(), provider.environ())
        assert (report.exit_code, len(provider.asks)) == (6, 4)
        assert broken_promises(repo, report) == []
        healthy = True
        report = await repo.resume(provider.environ())
        assert len(provider.asks) == 5
    assert report.exit_code == 0
    assert (repo.root / "calc.py").read_text() == MENDED
    assert broken_promises(repo, report) == []


@pytest.mark.slow
async def test_nothing_new_starts_and_what_runs_is_finished(world: Path) -> None:
    repo = World(world / "w", "anthropic")
    others = (
        "  - id: long\n    needs: []\n    run: sleep 6; echo finished\n"
        "  - id: late\n    needs: [long]\n    run: echo never\n"
    )
    text = workflow("one", "two", "three").replace("steps:\n", f"steps:\n{others}")
    with serving(repo.hearing(in_turn(Fault(401)))) as provider:
        report = await repo.run(text, provider.environ())
    assert report.exit_code == 6
    assert len(repo.asks) == 1, "who waited for the tree asks nobody"
    finished = [one.step for one in repo.of(CommandFinished)]
    assert "long" in finished
    assert "late" not in finished
    statuses = {step.id: str(step.status) for step in report.steps}
    assert statuses["long"] == "succeeded"
    assert statuses["late"] != "succeeded"
    assert broken_promises(repo, report) == []


@pytest.mark.parametrize(("vendor", "fault"), [("anthropic", Fault(401)), ("chat", Fault(404))])
async def test_a_fault_at_rung_main_ends_the_run_as_well(
    world: Path, vendor: Vendor, fault: Fault
) -> None:
    repo = World(world / "w", vendor)

    def script(ask: Ask) -> Reply:
        return fault if ask.model in MAIN_NAMES else CANNOT

    with serving(repo.hearing(script)) as provider:
        report = await repo.run(workflow(), provider.environ())
    assert report.exit_code == 6
    attempts: list[AttemptFinished] = repo.of(AttemptFinished)
    assert [one.attempt.verdict for one in attempts][1:] == [Verdict.HARD, Verdict.INFRA]
    assert broken_promises(repo, report) == []


@pytest.mark.slow
@pytest.mark.parametrize("vendor", VENDORS)
async def test_tls_with_a_port_that_speaks_none(world: Path, vendor: Vendor) -> None:
    repo = World(world / "w", vendor)
    with serving(repo.hearing(in_turn(MEND))) as provider:
        environ = {
            name: value.replace("http://", "https://") for name, value in provider.environ().items()
        }
        report = await repo.run(workflow(), environ)
    assert (report.exit_code, len(repo.of(ModelAsked)), repo.of(ModelResponded)) == (6, 4, [])
    attempt = report.steps[0].attempts[-1]
    assert "SSL" in attempt.reason
    assert broken_promises(repo, report) == []


async def test_a_connection_that_is_refused_and_then_is_not(world: Path) -> None:
    repo, opens = World(world / "w", "anthropic"), list[Event]()
    with serving(repo.hearing(in_turn(MEND))) as provider, socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        here, there = door.getsockname()[1], int(provider.url.rpartition(":")[2])
        environ = {k: v.replace(str(there), str(here)) for k, v in provider.environ().items()}
        tasks = anyio.create_task_group()

        def opened(event: Event) -> None:
            if isinstance(event, ModelRetried) and not opens:
                opens.append(event)
                door.listen()
                tasks.start_soon(_forward, door, there)

        async with tasks:
            report = await repo.run(workflow(), environ, watch=opened)
            assert report.exit_code == 0
            assert broken_promises(repo, report) == []
            tasks.cancel_scope.cancel()
    assert len(opens) == 1
    assert len(repo.of(ModelAsked)) == 2
    assert len(repo.of(ModelResponded)) == 1, "what never left costs nothing"


async def _forward(door: socket.socket, port: int) -> None:
    """Pass what comes in at the door on to a port."""
    door.setblocking(False)
    while True:
        await anyio.wait_readable(door)
        taken, _ = door.accept()
        client = await anyio.abc.SocketStream.from_socket(taken)
        server = await anyio.connect_tcp("127.0.0.1", port)
        async with client, server, anyio.create_task_group() as tasks:
            tasks.start_soon(_pump, client, server)
            await _pump(server, client)
            tasks.cancel_scope.cancel()


async def _pump(one: anyio.abc.SocketStream, other: anyio.abc.SocketStream) -> None:
    async for piece in one:
        await other.send(piece)


async def test_a_redirect_takes_neither_key_nor_code_elsewhere(world: Path) -> None:
    repo = World(world / "w", "chat")
    with serving(in_turn(MEND)) as elsewhere:
        away = Fault(307, b"{}", {"location": f"{elsewhere.openai_url}/chat/completions"})
        with serving(repo.hearing(in_turn(away))) as provider:
            report = await repo.run(workflow(), provider.environ())
        assert elsewhere.asks == []
    assert report.exit_code == 6


FOR_PEOPLE = {"401", "a list", "429 for ever", "an argument of NaN", "usage absurd"}


@pytest.mark.parametrize(
    "case", [one for one in CASES if one.name in FOR_PEOPLE], ids=lambda case: case.name
)
def test_the_command_ends_without_a_traceback(world: Path, case: Case) -> None:
    repo = World(world / "w", "anthropic")
    (world / "workflow.yaml").write_text(workflow())
    command = ["exec", str(world / "workflow.yaml"), "--json"]
    command += ["--model", "main=anthropic:claude-opus-5-5", "--allow-uncommitted"]
    command += ["--model", "cheap=anthropic:claude-haiku-5-5"]
    with serving(in_turn(*case.replies)) as provider:
        environ = {**os.environ, **provider.environ()}
        done = Forked(command, cwd=repo.root, environ=environ)
        _, said = done.communicate()
    assert "Traceback" not in said
    assert done.returncode in {0, 3, 6}, said
    if done.returncode == 6:
        assert "runner resume" in said
        assert "{'" not in said, "no value of Python's is for people"
