from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from scratch import make

from runner.workspace.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from runner.workspace.environments import Environments


@pytest.fixture
async def place(world: Path) -> tuple[Path, Environments]:
    """A tree with an environment, packages, settings and caches, all ignored."""
    repo = make(world)
    repo.write(".gitignore", "__pycache__/\n*.pyc\n/env/\nnode_modules/\n.env\n*.log\nbuild/\n")
    repo.commit_all()
    repo.write("env/pyvenv.cfg", "home = /usr\n")
    repo.write("env/lib/dep.py", "ANSWER = 42\n")
    repo.write("web/node_modules/pkg/index.js", "module.exports = 42\n")
    repo.write("web/node_modules/.cache/x", "1\n")
    repo.write(".env", "KEY=1\n")
    repo.write("run.log", "x\n")
    repo.write("build/out.js", "x\n")
    (repo.root / "env/link").symlink_to("lib")
    (repo.root / "env/lib/dep.py").chmod(0o755)
    tree = await Tree.open(repo.root, world / "state")
    return repo.root, tree.environments(lambda path: path == ".env")


@pytest.mark.parametrize(
    "path",
    ["env/lib/dep.py", "env/pyvenv.cfg", "web/node_modules/pkg/index.js", ".env"],
)
async def test_a_change_is_found_and_put_back(place: tuple[Path, Environments], path: str) -> None:
    root, watch = place
    before = await watch.record()
    content, mode = (root / path).read_text(), (root / path).stat().st_mode
    times = (root / path).stat()
    (root / path).write_text(content[::-1])
    os.utime(root / path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert await watch.changed(before) == (path,)
    assert await watch.undo(before, (path,)) == ()
    assert ((root / path).read_text(), (root / path).stat().st_mode) == (content, mode)
    assert await watch.changed(before) == ()


@pytest.mark.parametrize(
    "path", ["web/node_modules/.cache/x", "web/node_modules/.vite/y", "run.log", "build/out.js"]
)
async def test_caches_and_products_may_change(place: tuple[Path, Environments], path: str) -> None:
    root, watch = place
    before = await watch.record()
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_text("changed")
    (root / "env/lib/__pycache__").mkdir()
    (root / "env/lib/__pycache__/dep.pyc").write_text("compiled")
    (root / "env/lib/dep.py").touch()
    assert await watch.changed(before) == ()


async def test_what_came_and_what_went_is_undone(place: tuple[Path, Environments]) -> None:
    root, watch = place
    before = await watch.record()
    (root / "env/lib/dep.py").unlink()
    (root / "env/lib").rmdir()
    (root / "env/link").unlink()
    (root / "env/lib").symlink_to("/etc")
    (root / "web/node_modules/new/deep").mkdir(parents=True)
    (root / "web/node_modules/new/deep/index.js").write_text("evil")
    changed = await watch.changed(before)
    assert changed == (
        "env/lib",
        "env/lib/dep.py",
        "env/link",
        "web/node_modules/new/deep/index.js",
    )
    assert await watch.undo(before, changed) == ()
    assert (root / "env/lib/dep.py").read_text() == "ANSWER = 42\n"
    assert not (root / "env/lib").is_symlink()
    assert (root / "env/link").readlink().name == "lib"
    assert not (root / "web/node_modules/new").exists()
    assert await watch.changed(before) == ()


async def test_what_the_command_itself_installs_is_allowed(
    place: tuple[Path, Environments],
) -> None:
    root, watch = place
    baseline = await watch.record()
    (root / ".env").write_text("by the agent")
    before = await watch.look()
    (root / "env/lib/dep.py").write_text("installed")
    (root / "env/lib/more.py").write_text("installed")
    await watch.allow(baseline, before, await watch.look())
    assert await watch.changed(baseline) == (".env",)
    (root / "env/lib/dep.py").write_text("by the agent")
    changed = await watch.changed(baseline)
    assert await watch.undo(baseline, changed) == ()
    assert (root / "env/lib/dep.py").read_text() == "installed"
    assert (root / ".env").read_text() == "KEY=1\n"


async def test_what_was_never_readable_is_told(place: tuple[Path, Environments]) -> None:
    root, watch = place
    before = await watch.look()
    (root / ".env").write_text("no copy was kept of it")
    assert await watch.undo(before, (".env",)) == (".env",)


async def test_copies_of_what_is_no_longer_so_are_forgotten(
    place: tuple[Path, Environments],
) -> None:
    root, watch = place
    await watch.record()
    kept = root.parent / "state" / "environments"
    copies = sum(path.is_file() for path in kept.rglob("*"))
    for content in ("ANSWER = 1\n", "ANSWER = 2\n"):
        (root / "env/lib/dep.py").write_text(content)
        await watch.record()
    assert copies
    assert sum(path.is_file() for path in kept.rglob("*")) == copies
