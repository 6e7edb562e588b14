"""What a sandbox is made of, without making one: mounts, arguments, what is looked at and asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import Options, run
from runner.errors import NotGranted, ProtectionError, UsageError
from runner.loader import parse_workflow
from runner.loader.config import parse_config
from runner.plan import SandboxSettings, UserConfig
from runner.prepare import sandbox_mode
from runner.sandbox import Cache, Held, Mount, Need, Surroundings
from runner.sandbox.bubblewrap import Bubblewrap, arguments_for, find_program
from runner.sandbox.mounts import Reach, mounts_for
from runner.sandbox.opening import Extra, hold, open_sandbox
from runner.sandbox.reach import reach_of
from runner.sandbox.repositories import git_paths
from runner.sandbox.surroundings import base_of, environments_of, look_around, prefix_of
from runner.workspace.commands import Command
from runner.workspace.plainfile import plain_bytes
from runner.workspace.processes import GIVEN

if TYPE_CHECKING:
    from collections.abc import Sequence

TREE = Path("/home/u/tree")
AROUND = Surroundings(
    root=TREE,
    home=Path("/home/u"),
    readable=(Path("/usr"), Path("/etc"), Path("/home/u/.pyenv")),
    hidden=(Path("/etc/shadow"),),
    closed=(Path("/etc/ssl/private"),),
    links=((Path("/bin"), "usr/bin"),),
    git=(TREE / ".git", Path("/elsewhere/objects")),
    caches=(
        Cache("XDG_CACHE_HOME", Path("/home/u/.cache"), Path("/state/cache")),
        Cache("", Path("/home/u/.cache/pre-commit"), Path("/state/cache/pre-commit"), shown=True),
    ),
)


def by_path(mounts: Sequence[Mount]) -> dict[str, str]:
    """Return kinds of mounts by path; private ones with an asterisk."""
    return {str(one.path): one.kind + ("*" if one.source.startswith("/state") else "")
            for one in mounts}  # fmt: skip


def of(
    need: Need, reach: Reach | None = None, filled: frozenset[Path] = frozenset()
) -> dict[str, str]:
    return by_path(mounts_for(AROUND, need, reach=reach, filled=filled))


# -- mounts --------------------------------------------------------------------------------------


def test_an_authors_command_writes_the_tree_and_nothing_of_git() -> None:
    found = of(Need(tree=TREE))
    assert {path for path, kind in found.items() if kind == "write"} == {str(TREE)}
    assert found[f"{TREE}/.git"] == found["/elsewhere/objects"] == "read"
    assert found["/home/u"] == found["/tmp"] == found["/run"] == "empty"
    assert found["/etc/shadow"] == "mask"
    assert found["/etc/ssl/private"] == "hide"
    assert found["/home/u/.cache"] == "write*"


@pytest.mark.parametrize(
    ("need", "filled", "expected"),
    [
        (Need(tree=TREE), False, "read"),
        (Need(tree=TREE), True, "write*"),
        (Need(tree=TREE, network=True), False, "write*"),
        (Need(tree=TREE, write=("**",), network=True), True, "read"),
    ],
)
def test_the_users_cache_is_shown_where_nothing_new_can_be_fetched(
    need: Need,
    filled: bool,
    expected: str,
) -> None:
    private = frozenset({Path("/state/cache/pre-commit")}) if filled else frozenset[Path]()
    reach = Reach(write=(TREE,)) if need.write else None
    assert of(need, reach, private)["/home/u/.cache/pre-commit"] == expected


def test_a_mend_writes_its_scope_and_what_it_leaves_in_caches_is_thrown_away() -> None:
    reach = Reach(
        write=(TREE / "src",),
        keep=(TREE / "src" / "locked.py",),
        hidden=(TREE / ".env",),
        closed=(TREE / ".aws",),
    )
    found = of(Need(tree=TREE, write=("src/**",)), reach)
    assert found[str(TREE)] == found[f"{TREE}/src/locked.py"] == "read"
    assert found[f"{TREE}/src"] == "write"
    assert (found[f"{TREE}/.env"], found[f"{TREE}/.aws"]) == ("mask", "hide")
    assert found["/home/u/.cache"] == "empty"
    assert not any(kind == "write*" for kind in found.values())


def test_a_clean_checkout_is_written_in_the_place_of_the_tree_and_its_git_is_held() -> None:
    found = of(Need(tree=Path("/state/checkout")))
    assert found["/state/checkout"] == "write"
    assert found["/state/checkout/.git"] == found[f"{TREE}/.git"] == "read"


def test_what_stands_in_the_place_of_something_is_shown_there() -> None:
    need = Need(
        tree=TREE,
        private=(Path("/state/out"),),
        instead=((TREE / ".git", Path("/state/copy"), True), (Path("/run/o"), Path("/o"), False)),
    )
    mounts = {str(one.path): one for one in mounts_for(AROUND, need, filled=frozenset())}
    assert mounts[f"{TREE}/.git"] == Mount("write", TREE / ".git", "/state/copy")
    assert mounts["/run/o"] == Mount("read", Path("/run/o"), "/o")
    assert mounts["/state/out"].kind == "write"


NAMES = st.sampled_from(["a", "b", ".git", "usr", "home", "u", "tree", "etc", "tmp", ".cache"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map(lambda names: Path("/", *names))
SETS = st.lists(PATHS, max_size=6, unique=True).map(tuple)


@given(readable=SETS, hidden=SETS, private=SETS, git=SETS, tree=PATHS, home=PATHS)
def test_parents_come_first_each_path_is_there_once_and_git_is_never_writable(
    readable: tuple[Path, ...],
    hidden: tuple[Path, ...],
    private: tuple[Path, ...],
    git: tuple[Path, ...],
    tree: Path,
    home: Path,
) -> None:
    around = Surroundings(root=tree, home=home, readable=readable, hidden=hidden, git=git)
    need = Need(tree=tree, private=private)
    mounts = mounts_for(around, need, filled=frozenset())
    paths = [one.path for one in mounts]
    assert len(set(paths)) == len(paths)
    for at, path in enumerate(paths):
        assert not any(later in path.parents for later in paths[at + 1 :])
    kinds = {one.path: one.kind for one in mounts}
    for path in set(git) - set(private) - {tree}:
        nearest = next(one for one in (path, *path.parents) if one in kinds)
        assert kinds[nearest] == "read"
    assert kinds[tree] == "write" or tree in {*private, *git}


def test_arguments_are_those_of_bubblewrap_in_the_order_of_the_mounts() -> None:
    mounts = (
        Mount("empty", Path("/tmp")),
        Mount("link", Path("/bin"), "usr/bin"),
        Mount("read", Path("/usr"), optional=True),
        Mount("write", Path("/t"), "/s"),
        Mount("mask", Path("/etc/shadow"), "/dev/null"),
        Mount("hide", Path("/p")),
    )
    text = " ".join(arguments_for(mounts, network=False))
    assert text.endswith(
        "--unshare-net --proc /proc --dev /dev --perms 1777 --tmpfs /tmp --symlink usr/bin /bin"
        " --ro-bind-try /usr /usr --bind /s /t --ro-bind-try /dev/null /etc/shadow"
        " --perms 0111 --tmpfs /p"
    )
    for needed in ("--die-with-parent", "--new-session", "--cap-drop ALL", "--unshare-pid"):
        assert needed in text
    assert "--unshare-net" not in arguments_for(mounts, network=True)


def test_no_variable_of_a_command_reaches_bubblewrap_or_its_arguments(world: Path) -> None:
    around = Surroundings(root=world, home=Path("/home/u"))
    sandbox = Bubblewrap(Path("/usr/bin/bwrap"), around)
    env = {"LD_PRELOAD": "/x.so", "TOKEN": "hidden-value", "TMPDIR": "/scratch", "TMP": str(world)}
    command = Command(argv=("true",), cwd=world, env=env)
    started = sandbox.confine(command, Need(tree=world))
    assert set(started.env) == {"PATH"}
    assert started.argv == ("true",)
    assert GIVEN in started.launcher
    assert "hidden-value" not in " ".join(started.launcher)
    given_ = started.given.split(b"\0")
    assert given_[given_.index(b"LD_PRELOAD") - 1] == b"--setenv"
    assert b"TMPDIR" not in given_
    assert b"TMP" in given_


# -- looking around ------------------------------------------------------------------------------


def python_at(base: Path) -> Path:
    (base / "bin").mkdir(parents=True)
    (base / "lib" / "python3.11").mkdir(parents=True)
    (base / "lib" / "python3.11" / "os.py").write_text("")
    (base / "bin" / "python3").write_text("")
    return base


def test_what_lies_around_a_tree(world: Path) -> None:
    home, root = world / "home", world / "home" / "tree"
    base = python_at(home / "pythons" / "3.11")
    for path in (".pyenv/bin", ".ssh", "node/bin", "node/lib", "tree/.venv", "real", "tree/bin"):
        (home / path).mkdir(parents=True)
    (root / ".venv" / "pyvenv.cfg").write_text(f"home = {base}/bin\n")
    (world / "link").symlink_to(home / "real")
    path = os.pathsep.join(
        [f"{home}/node/bin", f"{root}/bin", str(home), str(world / "link"), "relative", "/nowhere"]
    )
    around = look_around(
        root, world / "state", {"HOME": str(home), "PATH": path}, Extra(read=("~/.ssh",))
    )
    ours = {one for one in around.readable if one.is_relative_to(world)}
    assert ours == {home / ".pyenv", home / "node", base, home / "real", home / ".ssh"}
    assert dict(around.links)[world / "link"] == str(home / "real")
    assert Path("/usr") in around.readable
    assert around.home == home


def test_a_tree_that_names_secret_places_is_not_believed(world: Path) -> None:
    secret = world / "home" / ".ssh"
    secret.mkdir(parents=True)
    (secret / "bin").mkdir()
    root = world / "tree"
    (root / "env").mkdir(parents=True)
    (root / "env" / "pyvenv.cfg").write_text(f"home = {secret}/bin\n")
    (root / ".git").write_text(f"gitdir: {secret}\n")
    (root / ".gitmodules").write_text('[submodule "x"]\n\tpath = ../home/.ssh\n')
    assert list(environments_of(root, {})) == [root / "env"]
    assert base_of(root / "env") is None
    assert git_paths(root) == (root / ".git",)


@pytest.mark.parametrize(
    ("made", "directory", "prefix"),
    [
        (("n/bin", "n/lib"), "n/bin", "n"),
        (("n/bin",), "n/bin", "n/bin"),
        ((".local/bin", ".local/lib", ".local/share"), ".local/bin", ".local/bin"),
        (("n/tools", "n/lib"), "n/tools", "n/tools"),
    ],
)
def test_what_a_directory_of_programs_belongs_to(
    world: Path, made: tuple[str, ...], directory: str, prefix: str
) -> None:
    for path in made:
        (world / path).mkdir(parents=True)
    assert prefix_of(world / directory) == world / prefix


def test_a_cache_cannot_be_put_where_nothing_can_be_made(world: Path) -> None:
    home = world / "home"
    home.mkdir()
    environ = {"HOME": str(home), "UV_CACHE_DIR": "/usr/no-such-cache", "PIP_CACHE_DIR": "/var/pip"}
    around = look_around(world / "tree", world / "state", environ)
    paths = {str(cache.path) for cache in around.caches}
    assert "/usr/no-such-cache" not in paths
    assert "/var/pip" in paths


def test_what_a_mend_may_write_as_far_as_it_is_there(world: Path) -> None:
    for path in ("src/deep", "docs", ".venv", "src/node_modules", ".runner"):
        (world / path).mkdir(parents=True)
    (world / ".venv" / "pyvenv.cfg").write_text("")
    for path in ("src/a.py", "src/deep/LOCKED.py", "top.py", "top.txt", ".env", ".runner/x"):
        (world / path).write_text("")
    (world / "src" / "out").symlink_to("/etc")

    def names(need: Need) -> dict[str, set[str]]:
        reach = reach_of(need)
        assert reach is not None
        kinds = {"write": reach.write, "keep": reach.keep, "hidden": reach.hidden}
        return {
            kind: {path.relative_to(world).as_posix() for path in paths}
            for kind, paths in kinds.items()
        }

    protect = ("**/locked.py", ".runner/**")
    kept = {"src/deep/LOCKED.py", ".runner", ".venv", "src/node_modules"}
    assert names(Need(tree=world, write=("src/**", "gone/**", "../x"), protect=protect)) == {
        "write": {"src"}, "keep": kept, "hidden": {".env"},
    }  # fmt: skip
    assert names(Need(tree=world, write=("*.py",), protect=protect))["write"] == {"top.py"}
    assert names(Need(tree=world, write=("**",), protect=protect))["write"] == {"."}
    lifted = Need(tree=world, write=("**",), protect=protect, lifted=(".runner/**",))
    assert ".runner" not in names(lifted)["keep"]
    assert reach_of(Need(tree=world)) is None


# -- whether it holds ----------------------------------------------------------------------------


def test_a_program_that_others_can_change_is_not_taken(world: Path) -> None:
    program = world / "bwrap"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    assert find_program((program,)) != program
    assert find_program((world / "missing",)) is None or find_program().is_absolute()  # type: ignore[union-attr]


def test_a_tree_that_holds_the_home_has_no_sandbox(world: Path) -> None:
    (world / "home").mkdir()
    held = hold(world, world / "state", {"HOME": str(world / "home")}, Path("/usr/bin/bwrap"))
    assert held.by == "none"
    assert "home" in held.why
    with pytest.raises(ProtectionError) as caught:
        open_sandbox("require", world, world / "s", {"HOME": str(world / "home")}, Extra())
    assert caught.value.exit_code == 4
    assert caught.value.hint == held.fix
    sandbox = open_sandbox("auto", world, world / "s", {"HOME": str(world / "home")}, Extra())
    assert sandbox is not None
    assert sandbox.held == held
    command = Command(argv=("true",), cwd=world, env={})
    assert sandbox.confine(command, Need(tree=world)) == command
    assert open_sandbox("off", world, world / "s", {}, Extra()) is None
    assert Held("bubblewrap").words == "bubblewrap"


PLAIN = parse_workflow('steps: [{id: a, run: "true"}]', file=None, root=Path("/"))
STRICT = parse_workflow(
    'sandbox: require\nsteps: [{id: a, run: "true"}]', file=None, root=Path("/")
)


@pytest.mark.parametrize(
    ("option", "variable", "user", "mode"),
    [
        (None, "", None, "auto"),
        (None, "", "off", "off"),
        (None, "require", "off", "require"),
        ("auto", "off", "off", "auto"),
        ("off", "require", "require", "off"),
    ],
)
def test_the_caller_comes_before_the_variable_before_the_users_file(
    option: str | None, variable: str, user: str | None, mode: str
) -> None:
    options = Options(sandbox=option)  # type: ignore[arg-type]
    config = UserConfig(sandbox=SandboxSettings(mode=user))  # type: ignore[arg-type]
    environ = {"SUBRUNNER_SANDBOX": variable}
    assert sandbox_mode(PLAIN, options, config, environ) == mode
    if mode == "off":
        with pytest.raises(ProtectionError, match="switched off"):
            sandbox_mode(STRICT, options, config, environ)
    else:
        assert sandbox_mode(STRICT, options, config, environ) == "require"


def test_a_variable_that_says_something_else_is_told() -> None:
    with pytest.raises(UsageError, match="SUBRUNNER_SANDBOX='no'"):
        sandbox_mode(PLAIN, Options(), UserConfig(), {"SUBRUNNER_SANDBOX": "no"})


def test_a_repository_asks_for_nothing_weaker() -> None:
    for asked in ("off", "auto", "{ read: [/] }"):
        with pytest.raises(UsageError):
            parse_workflow(f'sandbox: {asked}\nsteps: [{{id: a, run: "true"}}]', file=None,
                           root=Path("/"))  # fmt: skip


def test_the_users_file_says_mode_and_places() -> None:
    config = parse_config("sandbox: { mode: require, read: [~/x, /y], write: [/z] }", file="c")
    assert config.sandbox == SandboxSettings("require", ("~/x", "/y"), ("/z",))
    for wrong in ("read: [x]", "write: [../x]", "mode: maybe", "network: true"):
        with pytest.raises(UsageError):
            parse_config(f"sandbox: {{ {wrong} }}", file="c")


async def test_a_workflow_that_requires_a_sandbox_does_not_run_without_one(world: Path) -> None:
    file = world / "workflow.yaml"
    file.write_text("sandbox: require\nsteps: [{id: a, run: touch ran}]\n")
    with pytest.raises(ProtectionError) as caught:
        await run(file, cwd=world, options=Options(state_dir=world.parent / "state"))
    assert caught.value.exit_code == 4
    assert not (world / "ran").exists()


async def test_network_is_granted_outside_or_nothing_runs(world: Path) -> None:
    file = world / "workflow.yaml"
    file.write_text("steps: [{id: a, run: touch ran, network: true}]\n")
    with pytest.raises(NotGranted):
        await run(file, cwd=world, options=Options(state_dir=world.parent / "state"))


def test_a_run_without_a_sandbox_loads_nothing_of_it(world: Path) -> None:
    (world / "workflow.yaml").write_text('steps: [{id: a, run: "true"}]')
    program = (
        "import sys; from runner.cli import invoke; code = invoke(['exec', '--sandbox', 'off']);"
        " print(code, [name for name in sys.modules if name.startswith('runner.sandbox')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=world, capture_output=True, text=True, check=False
    )
    assert done.stdout == "0 []\n", done.stderr


def test_only_a_plain_file_is_read_and_not_more_than_asked(world: Path) -> None:
    (world / "file").write_text("12345")
    (world / "link").symlink_to(world / "file")
    os.mkfifo(world / "pipe")
    assert plain_bytes(world / "file", 3) == b"123"
    for name in ("link", "pipe", "missing", "."):
        assert plain_bytes(world / name, 3) is None
