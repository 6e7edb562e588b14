"""`runner doctor` proves what holds by trying to break it, and says how to get the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from refusing import (
    WITHOUT_NAMESPACES,
    why_not,
    without_bubblewrap,
    without_landlock,
    without_namespaces,
)

from runner.cli.checkup import file_system, try_git, try_masking, try_state
from runner.sandbox.landlock import OLDEST, version
from runner.sandbox.remedies import APPARMOR, MOST, USERNS, Machine, to_allow, to_install

DOCTOR = (sys.executable, "-m", "runner", "doctor")
LANDLOCK = version() >= OLDEST


def doctor(cwd: Path, *argv: str) -> tuple[int, str]:
    """Run a command that runs the doctor; return its exit code and its output."""
    env = {name: value for name, value in os.environ.items() if name != "SUBRUNNER_SANDBOX"}
    env["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run(
        argv, cwd=cwd, env=env, capture_output=True, check=False, timeout=100, text=True
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def proofs(output: str) -> dict[str, dict[str, Any]]:
    """Return the proofs of `--json` by id."""
    return {proof["id"]: proof for proof in json.loads(output)["proofs"]}


@pytest.mark.tools
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")
class TestRealMachines:
    """Each machine is made real around the command."""

    def test_with_bubblewrap(self, world: Path) -> None:
        """Every attempt fails, and nothing of it stays."""
        code, output = doctor(world, *DOCTOR, "--json")
        found = json.loads(output)
        assert found["sandbox"]["by"] == "bubblewrap"
        assert [p["id"] for p in found["proofs"] if not p["holds"]] == []
        assert len(found["proofs"]) == 17
        assert code == found["exit_code"] == 0
        state = Path(os.environ["XDG_STATE_HOME"])
        assert not list(state.rglob("doctor-*"))
        assert not list(Path(os.environ["HOME"]).glob(".subrunner-*"))

    @pytest.mark.skipif(not LANDLOCK, reason="no Landlock")
    @pytest.mark.parametrize("refused", [without_bubblewrap, without_namespaces])
    def test_with_landlock(self, world: Path, refused: Any) -> None:
        """It holds less, says what, and how to get the rest; none of what it promises breaks."""
        code, output = doctor(world, *refused(*DOCTOR, "--json"))
        found = json.loads(output)
        assert found["sandbox"]["by"] == "landlock"
        expected = "max_user_namespaces" if refused is without_namespaces else "bubblewrap"
        assert expected in found["sandbox"]["fix"]
        broken = {p["id"] for p in found["proofs"] if not p["holds"]}
        assert {"git", "network", "processes", "sockets"} <= broken
        assert not {p["id"] for p in found["proofs"] if p["promised"]} & broken
        assert code == 0

    def test_with_nothing(self, world: Path) -> None:
        """The attempts succeed where nothing keeps them from it: so they are real ones."""
        code, output = doctor(world, *without_bubblewrap(*without_landlock(*DOCTOR, "--json")))
        found = json.loads(output)
        assert found["sandbox"]["by"] == "none"
        expected = {"git", "write", "network", "processes", "signals", "sockets", "tmp", "scope"}
        reached = {p["id"] for p in found["proofs"] if not p["holds"]}
        assert expected | {"home", "mend-network", "mend-secrets"} <= reached
        assert not reached & {"behind", "git-programs", "masking", "state"}
        assert code == 0

    def test_required(self, world: Path) -> None:
        """What is required and is not there is exit code 4."""
        code, output = doctor(world, *without_bubblewrap(*DOCTOR, "--require"))
        assert code == 4
        assert "which is required" in output
        assert "Fix " in output

    def test_table(self, world: Path) -> None:
        """The table fits a terminal of 80 columns; only what is copied is longer."""
        code, output = doctor(world, *without_namespaces(*DOCTOR))
        assert code == 0
        lines = [line for line in output.splitlines() if not line.startswith(("Fix", "State"))]
        assert max(map(len, lines)) <= 80
        assert "Keys " in output


def test_refusals_are_real() -> None:
    """What refuses user namespaces is the kernel's own switch."""
    assert "max_user_namespaces" in WITHOUT_NAMESPACES


async def test_git_runs_nothing(world: Path) -> None:
    """Our git runs none of the programs that a repository names; the user's own would."""
    proof = await try_git(world)
    assert proof.holds, proof.seen
    assert not list(world.glob("doctor-git-*"))


async def test_masking(world: Path) -> None:
    """Every form of a secret is masked, also where it comes in two pieces."""
    proof = await try_masking(world)
    assert proof.holds, proof.seen


def test_state_directory(world: Path) -> None:
    """A state directory that others may read is no protection."""
    state = world / "state"
    state.mkdir(mode=0o700)
    assert try_state(state).holds
    state.chmod(0o755)
    proof = try_state(state)
    assert not proof.holds
    assert "755" in proof.seen
    assert file_system(state)


DEBIAN = Machine(system="linux", family=("debian",), root=True)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (DEBIAN, "apt-get install -y bubblewrap"),
        (Machine(system="linux", family=("ubuntu", "debian"), sudo=True),
         "sudo apt-get install -y bubblewrap"),
        (Machine(system="linux", family=("rocky", "rhel"), root=True),
         "dnf install -y bubblewrap"),
        (Machine(system="linux", family=("alpine",), root=True), "apk add bubblewrap"),
        (Machine(system="linux"), "install the package bubblewrap"),
        (Machine(system="darwin"), "run it on Linux, in a virtual machine or a container, say"),
    ],
)  # fmt: skip
def test_how_to_install(machine: Machine, expected: str) -> None:
    """The command is the one of this system."""
    assert to_install(machine) == expected


@pytest.mark.parametrize(
    ("switches", "container", "expected"),
    [
        (((APPARMOR, "1"), (MOST, "31231")), "",
         "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
         " (to keep it: /etc/sysctl.d)"),
        (((MOST, "0"),), "", "sudo sysctl -w user.max_user_namespaces=15000"
         " (to keep it: /etc/sysctl.d)"),
        (((USERNS, "0"),), "", "sudo sysctl -w kernel.unprivileged_userns_clone=1"
         " (to keep it: /etc/sysctl.d)"),
        (((APPARMOR, "1"), (MOST, "31231")), "docker", "seccomp=unconfined"),
        (((MOST, "31231"),), "", "let this process make user namespaces"),
    ],
)  # fmt: skip
def test_how_to_allow(switches: tuple[tuple[str, str], ...], container: Any, expected: str) -> None:
    """The first of what refuses is what is to be changed."""
    machine = Machine(system="linux", sudo=True, switches=switches, container=container)
    said = "bwrap: setting up uid map: Permission denied"
    assert expected in to_allow(said, machine)
