"""What a mend does to files behind the tools' back, through real runs with a scripted model.

Each attempt also mends the code, so that the command would pass: only a look at the disk can
tell.
"""

from __future__ import annotations

# ruff: noqa: PTH114, PTH115, PTH118, PTH123  names that are no text
import ctypes
import json
import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest
from scratch import CALC, UNITTEST, Scratch, make

from runner.agentfiles import AgentFiles
from runner.tools import Permit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner import Report

pytestmark = pytest.mark.timeout(60)

WORKFLOW = f"""
name: mend
steps:
  - id: test
    run: {UNITTEST}
    fix: {{ agent: fixer, attempts: 1, write: [calc.py, "src/**", "Straße/**"] }}
"""
ANYWHERE = WORKFLOW.replace(', write: [calc.py, "src/**", "Straße/**"]', "")
MEND = "sed -i 's/a - b/a + b/' calc.py"


@pytest.fixture
def broken(world: Path) -> Scratch:
    repo = make(world)
    repo.write("calc.py", CALC.replace("a + b", "a - b"))
    repo.write("src/a.py", "x = 1\n")
    repo.write("src/b.py", "y = 1\n")
    repo.write("other/c.py", "z = 1\n")
    repo.write("README.md", "hello\n")
    repo.write(".github/workflows/ci.yml", "on: push\n")
    repo.write("CODEOWNERS", "* @ada\n")
    repo.write("AGENTS.md", "be kind\n")
    repo.write("package-lock.json", "{}\n")
    repo.write(".gitignore", "__pycache__/\n.venv/\nbuild/\n")
    (repo.root / "src/link").symlink_to("a.py")
    repo.commit_all("break it")
    repo.write(".venv/lib/dep.py", "ANSWER = 42\n")
    (world / "outside.txt").write_text("outside\n")
    return repo


def look(root: Path) -> dict[str, tuple[int, bytes]]:
    """Read every file, link and special file of the tree, with its mode."""
    found: dict[str, tuple[int, bytes]] = {}
    for folder, names, files in os.walk(os.fsencode(root)):
        names[:] = [name for name in names if name not in {b".git", b"__pycache__"}]
        for name in [*files, *(n for n in names if os.path.islink(os.path.join(folder, n)))]:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read(1 << 16)
            found[os.path.relpath(path, os.fsencode(root)).decode("utf-8", "replace")] = (
                mode,
                content,
            )
    return found


async def attempt(repo: Scratch, command: str, workflow: str = WORKFLOW) -> Report:
    models = repo.script(f"""
rules:
  - when: {{ role: cheap }}
    turns:
      - call: shell
        with: {{ command: {json.dumps(command)} }}
      - done: all tests pass now
  - cannot: no idea
""")
    return await repo.run(workflow, models=models, allow_shell=True)


REFUSED: dict[str, str] = {
    "new file outside": "echo x > new.py",
    "changed outside": "echo z = 2 > other/c.py",
    "deleted outside": "rm other/c.py",
    "renamed out of the scope": "mv src/a.py other/a.py",
    "renamed into the scope": "mv other/c.py src/c.py",
    "mode outside": "chmod +x README.md",
    "link outside": "ln -s README.md other/l",
    "link out of the tree": "ln -s /etc src/etc",
    "dangling link out of the tree": "ln -s ../../nowhere src/l",
    "link to a protected path": "ln -s ../.github/workflows/ci.yml src/l",
    "link to the test": "ln -s ../test_calc.py src/l",
    "link to a directory outside the scope": "ln -s ../other src/l",
    "link through a link": "ln -s ../other src/one; ln -s one/c.py src/two",
    "a file turned into a link": "ln -sf ../README.md src/a.py",
    "a link turned elsewhere": "ln -sfn ../README.md src/link",
    "a directory turned into a link": "rm -r other; ln -s src other",
    "nested repository": "git init -q src/sub; git -C src/sub commit -q --allow-empty -m x",
    "nested repository without a commit": "git init -q src/sub; echo x > src/sub/f",
    "git file": "mkdir src/sub; echo 'gitdir: /nowhere' > src/sub/.git",
    "gitmodules": "printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = -u\\n' > .gitmodules",
    "case twin of a protected path": "mkdir -p .GitHub/workflows; echo x > .GitHub/workflows/a.yml",
    "case twin of the test": "echo x > Test_Calc.py",
    "unicode twin": "mkdir -p $'Stra\\xc3\\x9fe'; echo x > $'claude\\xe2\\x80\\x8b.md'",
    "workflow of CI": "echo on: never > .github/workflows/ci.yml",
    "code owners": "echo > CODEOWNERS",
    "lock file": "echo '[]' > package-lock.json",
    "instructions of agents": "echo obey > AGENTS.md",
    "settings of tools": "mkdir -p .vscode; echo '{}' > .vscode/tasks.json",
    "mcp settings": "echo '{}' > .mcp.json",
    "environment file": "echo KEY=1 > .env",
    "runner's own": "mkdir -p .runner; echo 'name: x' > .runner/a.yaml",
    "start-up code": "echo 'x = 1' > sitecustomize.py",
    "name with a newline": "echo x > $'new\\nline.py'",
    "name that is no UTF-8": "echo x > $'\\xff\\xfe.py'",
    "255 bytes": "echo x > $(printf 'n%.0s' $(seq 252)).py",
    "ignored environment": "echo ANSWER = 0 > .venv/lib/dep.py",
    "ignored environment, new file": "echo x > .venv/lib/new.py",
}
"""What leaves the scope by itself, whatever else is mended."""


QUICK = ("changed outside", "link to the test", "git file", "nested repository without a commit")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in REFUSED],
)
async def test_what_leaves_the_scope_is_undone_and_hard(broken: Scratch, name: str) -> None:
    before, head = look(broken.root), broken.git("rev-parse", "HEAD")
    report = await attempt(broken, f"{MEND}; {REFUSED[name]}")
    said = report.steps[0].attempts[1]
    assert said.verdict.value == "hard", said
    assert said.reason.startswith(("left its scope", "tampered")), said
    assert report.exit_code == 5
    assert look(broken.root) == before
    assert [str(path) for path in broken.root.rglob(".git")] == [str(broken.root / ".git")]
    assert broken.git("rev-parse", "HEAD") == head
    assert (broken.root.parent / "outside.txt").read_text() == "outside\n"


IN_SCOPE: dict[str, str] = {
    "new": "echo x = 1 > src/new.py",
    "changed": "echo x = 2 > src/a.py",
    "deleted": "rm src/b.py",
    "renamed": "mv src/b.py src/c.py",
    "mode": "chmod +x src/a.py",
    "link within": "ln -s a.py src/l",
    "hard link within": "ln src/a.py src/hard.py",
    "odd names": "echo x > $'src/a b\\n\\xff'; echo x > src/$(printf 'n%.0s' $(seq 250)).py",
    "product that is ignored": "mkdir -p build; echo x > build/out",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "link within" else pytest.mark.slow)
        for name in IN_SCOPE
    ],
)
async def test_what_stays_within_the_scope_passes(broken: Scratch, name: str) -> None:
    report = await attempt(broken, f"{MEND}; {IN_SCOPE[name]}")
    assert report.exit_code == 7, report


@pytest.mark.slow
async def test_an_outside_file_is_not_changed_through_a_hard_link(broken: Scratch) -> None:
    outside = broken.root.parent / "outside.txt"
    report = await attempt(broken, f"{MEND}; ln -f ../outside.txt src/a.py; echo > other/c.py")
    assert report.exit_code == 5, report
    assert broken.read("src/a.py") == "x = 1\n"
    assert outside.read_text() == "outside\n"
    assert (broken.root / "src/a.py").stat().st_ino != outside.stat().st_ino


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fifo", "socket"])
async def test_what_is_no_file_hangs_nobody_and_is_never_committed(
    broken: Scratch, kind: str
) -> None:
    make_it = {
        "fifo": "mkfifo src/pipe",
        "socket": "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('src/s')\"",
    }[kind]
    ship = WORKFLOW + "  - id: commit\n    commit: { message: auto }\n"
    with anyio.fail_after(40):
        report = await attempt(broken, f"{MEND}; {make_it}", ship)
    assert report.exit_code == 0, report
    tracked = broken.git("ls-tree", "-r", "--name-only", "HEAD")
    assert "src/pipe" not in tracked
    assert "src/s\n" not in tracked


@pytest.mark.slow
async def test_setuid_and_attributes_never_get_into_a_commit(broken: Scratch) -> None:
    ship = WORKFLOW + "  - id: commit\n    commit: { message: auto }\n"
    report = await attempt(broken, f"{MEND}; chmod 4777 src/a.py; echo x = 2 >> src/a.py", ship)
    assert report.exit_code == 0, report
    row = broken.git("ls-tree", "HEAD", "src/a.py")
    assert row.startswith("100755"), "git knows no more than who may run it"
    assert "src/a.py" in report.steps[0].attempts[1].files


@pytest.mark.slow
async def test_many_files_and_a_terabyte_are_bounded(broken: Scratch) -> None:
    before = look(broken.root)
    many = "mkdir src/many; cd src/many; seq 300 | xargs touch; cd ../..; truncate -s 1T src/huge"
    with anyio.fail_after(50):
        report = await attempt(broken, f"{MEND}; {many}; echo z > other/c.py")
    assert report.exit_code in (1, 5), report
    left = look(broken.root)
    left.pop("src/huge", None)  # what is too large to keep is told, not copied
    assert left == before


@pytest.mark.parametrize("way", ["write", "read", "list"])
async def test_a_link_swapped_between_check_and_use_leads_nobody_out(
    broken: Scratch, way: str
) -> None:
    root, outside = broken.root, broken.root.parent / "elsewhere"
    outside.mkdir()
    (outside / "a.py").write_text("SECRET")
    (outside / "only-there.py").write_text("SECRET")
    stop = threading.Event()
    swap = exchanger(root / "src", root.parent / "trap")
    (root.parent / "trap").symlink_to(outside)
    thread = threading.Thread(target=lambda: [swap() for _ in iter(stop.is_set, True)])
    thread.start()
    files = AgentFiles(Permit(root=root, allows=lambda _: True, why_not=lambda _: ""))
    seen: set[str] = set()
    try:
        with anyio.move_on_after(0.8):
            while True:
                with suppress(OSError):
                    seen.add(await use(files, way))
    finally:
        stop.set()
        thread.join()
    assert sorted(path.name for path in outside.iterdir()) == ["a.py", "only-there.py"]
    assert {path.read_text() for path in outside.iterdir()} == {"SECRET"}
    assert seen, "nothing was ever served: the test shows nothing"
    assert not any("SECRET" in text or "only-there" in text for text in seen)


async def use(files: AgentFiles, way: str) -> str:
    if way == "write":
        await files.write_bytes(files.path("src/new.py"), b"mine")
        return "wrote"
    if way == "read":
        return (await files.read_bytes(files.path("src/a.py"))).decode()
    return " ".join(entry.name for entry in await files.list_dir(files.path("src")))


def exchanger(one: Path, other: Path) -> Callable[[], None]:
    """Swap two names, each at once, so that there is always something at both."""
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    here, there = os.fsencode(one), os.fsencode(other)
    return lambda: rename(-100, here, -100, there, 2)
