"""Decides whether a command failed because the sandbox kept something from it. Pure.

A word in the output proves nothing: a suite may print any error on purpose. So both must be so:
what the line names is there for the user and is not there in the sandbox; and the line is what the
command ended with, or, of a test runner, every failing test ended with such a line.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen
from runner.outcome import Denial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Sight = Literal["write", "read", "hidden", "empty"]
"""What a path is in the sandbox. `empty`: a directory that is there, with nothing of the user's."""


@frozen(kw_only=True)
class Facts:
    """What is known of one command's sandbox, and of the machine around it."""

    tree: str
    cwd: str
    home: str
    network: bool
    """Whether the command had the machine's network."""
    sight: Callable[[str], Sight]
    """What an absolute path is for the command."""
    exists: Callable[[str], bool]
    """Whether there is something at a path for the user."""
    writable: Callable[[str], bool]
    """Whether the user may write or make what is at a path."""
    which: Callable[[str], str]
    """Where the user's `PATH` has a program; empty where it has none."""
    listens: Callable[[int], bool]
    """Whether a service of this machine listens at a TCP port."""
    forbids: bool = False
    """Whether it answers that permission is denied, as Landlock does: else the path is not there,
    or its file system is read-only."""
    git: tuple[str, ...] = ()
    """Directories in which git keeps this repository."""


def denial(output: str, facts: Facts, *, whole: bool = True) -> Denial | None:
    """Say what the sandbox kept from a command that failed; `None` where nothing proves it.

    Args:
        output: What it printed, cleaned.
        facts: What its sandbox lets it see, and what is there without.
        whole: Whether that is all of it; else the middle is missing.
    """
    lines = output.splitlines()
    cases, listed = _cases(lines), _listed(lines)
    if not cases and not listed:
        return _ended_with(lines, facts)
    if listed and (found := _all_of([[text] for text in listed], facts)):
        return found
    if len(cases) < len(listed) or not whole:
        return None
    return _all_of([_said(case) for case in cases], facts)


def _all_of(cases: Sequence[Sequence[str]], facts: Facts) -> Denial | None:
    """Return what the first failing test lacked, where every one lacked something."""
    found = [_first(case, facts) for case in cases]
    return found[0] if found and all(found) else None


# -- which lines count -----------------------------------------------------------------------------

_MOST = 80
"""Lines from the end that are looked at: a traceback, or what Node prints of an error."""
_WENT_ON = 8
"""Lines after an error, indented ones not counted, from which on the command went on after it."""

_CASE = re.compile(
    r"_{3,} .+ _{3,}"  # pytest
    r"|\s*● .+"  # jest
    r"|\s*--- FAIL: .+"  # go test
    r"|---- .+ stdout ----"  # cargo test
    r"|(?:FAIL|ERROR): \w+ \(.+\)"  # unittest
    r"|\s+\d+\) .+"  # mocha
    r"|not ok \d+.*"  # TAP
    r"|\s*FAIL  .+ > .+"  # vitest
)
_NO_MORE_CASES = re.compile(
    r"={3,} .*(?:short test summary|warnings summary|\d+ (?:failed|errors?)).*={3,}"
    r"|(?:Tests|Test Suites):\s+\d+.*|Ran \d+ tests? in .*|failures:|FAIL\s+\S+\s+[\d.]+s"
    r"|1\.\.\d+|# (?:tests|fail) \d+"
)


def _cases(lines: Sequence[str]) -> list[list[str]]:
    """Return what a test runner says of each failing test; none where there is no test runner."""
    cases: list[list[str]] = []
    within = False
    for line in lines:
        if _CASE.fullmatch(line):
            cases.append([line])
            within = True
        elif _NO_MORE_CASES.fullmatch(line.strip()):
            within = False
        elif within:
            cases[-1].append(line)
    return [case for case in cases if any(line.strip() for line in case[1:])]


_LISTED = re.compile(r"(?:FAILED|ERROR) \S.* - (?P<text>.+)|(?:FAILED|ERROR) \S+\.py\S*")


def _listed(lines: Sequence[str]) -> list[str]:
    """Return why each test failed that pytest lists at its end; empty where it does not say."""
    start = max((n for n, line in enumerate(lines) if "short test summary" in line), default=None)
    if start is None:
        return []
    return [match["text"] or "" for line in lines[start:] if (match := _LISTED.fullmatch(line))]


_PRINTED = re.compile(r"-{3,} Captured .+ -{3,}")
_RAISED = re.compile(r"E {2,}(?P<text>\S.*)")


def _said(case: Sequence[str]) -> list[str]:
    """Return the lines that say why a test failed, without what it printed itself."""
    raised = [match["text"] for line in case if (match := _RAISED.fullmatch(line))]
    if raised:
        return raised
    said: list[str] = []
    for line in case:
        if _PRINTED.fullmatch(line):
            break
        said.append(line)
    return said


_OTHERWISE = re.compile(
    r"\b(?:error|fatal|fail(?:ed|ures?|s)?|panic(?:ked)?|assert\w*|mismatch|unexpected|expected"
    r"|\w+(?:Error|Exception|Failure))\b|\bnot ok\b|✗|✖|×",  # noqa: RUF001  as Vitest prints it
    re.IGNORECASE,
)
_CONSEQUENCE = re.compile(
    r"ERROR: (?:Could not find a version|No matching distribution|Failed to build|Could not install"
    r"|Could not build).*"
    r"|npm (?:error|ERR!).*|error Command failed.*| ?ELIFECYCLE.*"
    r"|This error happened while installing .*"  # pnpm
    r"|\s*[\w.-]+: (?:exit|FAIL code) \d+ \(.*|\s*evaluation failed :\( .*"  # tox
    r"|nox > (?:Session \S+ failed\.|Command .+ failed with exit code \d+:?)"
    r"|fatal: Could not read from remote repository\.|fatal: the remote end hung up.*"
    r"|fatal: could not set .*|error: failed to push some refs.*"
    r"|(?:make|gmake|ninja)(?:\[\d+\])?: (?:\*\*\*|build stopped).*"
    r"|error: (?:subprocess-exited-with-error|script .* exited.*|Recipe .* failed.*)"
    r"|(?:  )?(?:errno|code|syscall|path|stack|error|spawnargs|hostname): .*"  # Node's errors
    r"|Emitted 'error' event on .*"
    r"|\s+at .*|note: .*|FAIL\s+\S+ \[(?:build|setup) failed\]|FAIL|exit status \d+"
    r"|Error: Process completed with exit code.*|Caused by:|\s*╰─▶.*|\s*(?:hint|help): .*",
)
"""What a tool says after the error that ended it, and because of it."""


def _ended_with(lines: Sequence[str], facts: Facts) -> Denial | None:
    """Look upwards from the end, as far as nothing tells of another failure."""
    after = 0
    for line in reversed(lines[-_MOST:]):
        if found := _kept(line, facts):
            return found
        if _CONSEQUENCE.fullmatch(line.rstrip()):
            continue
        after += bool(line[:1].strip())
        if after > _WENT_ON or _OTHERWISE.search(line):
            return None
    return None


def _first(lines: Iterable[str], facts: Facts) -> Denial | None:
    return next((found for line in lines if (found := _kept(line, facts))), None)


def _kept(line: str, facts: Facts) -> Denial | None:
    """Say what was kept, if a line tells of that."""
    if len(line) > 4000:  # a line of data, not of an error
        return None
    return (
        _door(line, facts)
        or _program(line, facts)
        or _path(line, facts)
        or _port(line, facts)
        or _name(line, facts)
    )


# -- the network -----------------------------------------------------------------------------------

_UNREACHED = re.compile(
    r"could not resolve|unable to resolve host|failed to resolve|failed to lookup address"
    r"|temporary failure in name resolution|name or service not known|\bEAI_AGAIN\b|\bENOTFOUND\b"
    r"|\bdial \w+: lookup \S+|network is unreachable|\bENETUNREACH\b|dns error"
    r"|failed to connect to \d+\.\d+\.\d+\.\d+ port",
    re.IGNORECASE,
)
_HOST = re.compile(
    r"https?://(?:[^\s/@'\"]*@)?(?P<url>[\w.-]+)"
    r"|(?:host(?:name)?:? |address |to |lookup |EAI_AGAIN |ENOTFOUND |Failed to resolve )"
    r"['\"\u2018`]?(?P<name>(?:[\w-]+\.)+[\w-]+)"
    r"|\b(?P<ip>\d{1,3}(?:\.\d{1,3}){3})\b"
)
_NOWHERE = re.compile(
    r"(?:.*\.)?(?:invalid|test|localhost|local|internal)|127\..*|0\.0\.0\.0|192\.0\.2\..*"
    r"|198\.51\.100\..*|203\.0\.113\..*|240\..*",
    re.IGNORECASE,
)
"""Names and addresses that lead nowhere without a sandbox either (RFC 6761, RFC 5737)."""

_ASK_NETWORK = (
    "write `network: true` at the step and give the run --allow-network"
    " (or `grants: {network: true}` in your own configuration)"
)


def _name(line: str, facts: Facts) -> Denial | None:
    """A host that cannot be reached where there is no network."""
    if facts.network or not _UNREACHED.search(line):
        return None
    hosts = [name for match in _HOST.finditer(line) for name in match.groups() if name]
    hosts = [host.rstrip(".") for host in hosts]
    if hosts and all(_NOWHERE.fullmatch(host) for host in hosts):
        return None
    named = next((host for host in hosts if not _NOWHERE.fullmatch(host)), "")
    what = f"the network ({named})" if named else "the network"
    return Denial(what, _ASK_NETWORK)


_REFUSED = re.compile(
    r"connection refused|ECONNREFUSED|couldn't connect|failed to connect", re.IGNORECASE
)
_LOCAL_PORT = re.compile(
    r"(?:127\.0\.0\.1|localhost|\[?::1\]?)[\"')\s,:]*(?:port[ =]*)?:?(?P<port>\d{2,5})\b"
)


def _port(line: str, facts: Facts) -> Denial | None:
    """A service of the machine, where the command has a loopback of its own."""
    if facts.network or not _REFUSED.search(line):
        return None
    for match in _LOCAL_PORT.finditer(line):
        if facts.listens(int(match["port"])):
            what = f"the service that listens at port {match['port']} of this machine"
            return Denial(what, _ASK_NETWORK)
    return None


# -- sockets of programs that act for the user -----------------------------------------------------

_DOCKER = re.compile(
    r"docker.*(?:daemon|Connection aborted|Cannot connect|permission denied)", re.IGNORECASE
)
_AT_SOCKET = re.compile(r"unix://(?P<path>/[^\s'\":]+?)\.?(?=[\s'\":]|$)")
_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")
_SSH = re.compile(r"Permission denied \(publickey.*|Host key verification failed\.?", re.IGNORECASE)
_AGENT = re.compile(r"(?:connecting to agent|connection to your authentication agent)")


def _door(line: str, facts: Facts) -> Denial | None:
    """Docker's socket, and what SSH proves the user by."""
    if _DOCKER.search(line):
        named = [match["path"] for match in _AT_SOCKET.finditer(line)] or _SOCKETS
        if any(_hidden(path, facts) for path in named):
            path = next(path for path in named if _hidden(path, facts))
            return Denial(
                f"Docker's socket ({path}): whoever reaches it is root on this machine",
                "let the CI system start what the step needs, or name the socket under"
                " `sandbox: {write: [...]}` in your own configuration",
            )
    keys = posixpath.join(facts.home, ".ssh")
    if (_SSH.search(line) or _AGENT.search(line)) and _hidden(keys, facts):
        return Denial(
            "your SSH keys and agent",
            "no command gets them: let a `push` step push, or give the step a token as a secret",
        )
    return None


# -- programs --------------------------------------------------------------------------------------

_NO_PROGRAM = (
    re.compile(r"(?:^|: )(?P<name>[\w.+-]+): (?:command )?not found$"),
    re.compile(r"^(?:/usr/bin/)?(?:make|gmake|env|nice|timeout|xargs)(?:\[\d+\])?: .{0,40}?"
               r"['\"\u2018]?(?P<name>[\w.+-]+)['\"\u2019]?: No such file or directory$"),
    re.compile(r"\[Errno 2\] No such file or directory: '(?P<name>[\w.+-]+)'$"),
    re.compile(r"\bspawn(?:Sync)? (?P<name>[\w.+-]+) ENOENT"),
    re.compile(r"exec: \"(?P<name>[\w.+-]+)\": executable file not found in \$PATH"),
    re.compile(r"^bwrap: execvp (?P<name>[\w.+/-]+): No such file or directory$"),
)  # fmt: skip


def _program(line: str, facts: Facts) -> Denial | None:
    """A program that the user's `PATH` has and the sandbox has not."""
    for pattern in _NO_PROGRAM:
        match = pattern.search(line)
        if match is None:
            continue
        found = facts.which(match["name"])
        if found and _hidden(found, facts):
            return Denial(f"the program {match['name']} ({found})", _ask_read(found, facts))
    return None


# -- files -----------------------------------------------------------------------------------------

_NOT_THERE = re.compile(
    r"no such file or directory|\bENOENT\b|bad interpreter|not found", re.IGNORECASE
)
_FORBIDDEN = re.compile(r"permission denied|\bEACCES\b|\bPermissionDenied\b", re.IGNORECASE)
_NOT_WRITABLE = re.compile(
    r"read-only file ?system|\bEROFS\b|operation not permitted|\bEPERM\b|device or resource busy"
    r"|\bEBUSY\b|not writable",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"'(?P<single>[^'\n]+)'|\"(?P<double>[^\"\n]+)\"|\u2018(?P<curly>[^\u2019\n]+)\u2019|`(?P<back>[^`'\n]+)[`']"
    r"|(?<![\w/:.~])(?P<plain>~?/[^\s'\":,;()\[\]<>\u2018\u2019`]+)"
    r"|(?<![\w/])(?P<git>\.git(?:/[^\s'\":,;]*)?)(?=[\s'\":,;]|$)"
)
_SHARED = ("/tmp", "/var/tmp", "/dev", "/proc", "/sys")  # noqa: S108  nothing is made there
"""Where something of the same name proves nothing: it is any program's, or the kernel's."""


def _path(line: str, facts: Facts) -> Denial | None:
    """A path that the user has, or may write, and the command not."""
    absent, forbidden = _NOT_THERE.search(line), _FORBIDDEN.search(line)
    unwritable = _NOT_WRITABLE.search(line)
    if not (absent or forbidden or unwritable):
        return None
    for path in _paths(line, facts):
        if (absent or forbidden) and (seen := _nearest_hidden(path, facts)):
            return Denial(f"{seen}, which is hidden", _ask_read(seen, facts))
        if (unwritable or (forbidden and facts.forbids)) and _unwritable(path, facts):
            return _not_written(path, facts)
    return None


_SPEAKER = re.compile(
    r"/\S+: (?!no such file|permission denied|read-only|operation not|device or|not found)",
    re.IGNORECASE,
)
"""The program that tells of an error, in front of what it tells."""


def _paths(line: str, facts: Facts) -> Iterator[str]:
    """Yield what a line names, as absolute paths."""
    speaker = _SPEAKER.match(line)
    for match in _NAMED.finditer(line, speaker.end() if speaker else 0):
        named = next(text for text in match.groups() if text)
        if named.startswith("~/"):
            named = posixpath.join(facts.home, named[2:])
        path = posixpath.normpath(posixpath.join(facts.cwd, named.rstrip(".")))
        if not any(_below(path, shared) for shared in _SHARED) or _below(path, facts.tree):
            yield path


def _nearest_hidden(path: str, facts: Facts) -> str:
    """Return the path, or the directory that it would lie in, where that is hidden."""
    if _hidden(path, facts):
        return path
    above = posixpath.dirname(path)
    return above if not facts.exists(path) and _hidden(above, facts) else ""


def _hidden(path: str, facts: Facts) -> bool:
    return facts.sight(path) == "hidden" and facts.exists(path)


def _unwritable(path: str, facts: Facts) -> bool:
    return facts.sight(path) in ("read", "hidden") and facts.writable(path)


def _not_written(path: str, facts: Facts) -> Denial:
    if any(_below(path, directory) for directory in facts.git):
        return Denial(
            f"writing to {_told(path, facts)}",
            "no command writes what git keeps: let a `commit` step commit; a test that needs a"
            " repository makes one of its own",
        )
    place = path if facts.exists(path) else posixpath.dirname(path)
    return Denial(
        f"writing to {_told(path, facts)}",
        f"write below the tree or to $TMPDIR, or name it in your own configuration:"
        f" `sandbox: {{write: [{place}]}}`",
    )


def _ask_read(path: str, facts: Facts) -> str:
    place = path
    if facts.which(posixpath.basename(path)) == path:
        # The program alone is seldom enough: what it needs lies beside it.
        place = posixpath.dirname(path)
    return f"name it in your own configuration: `sandbox: {{read: [{_at_home(place, facts)}]}}`"


def _at_home(path: str, facts: Facts) -> str:
    return "~" + path.removeprefix(facts.home) if _below(path, facts.home) else path


def _told(path: str, facts: Facts) -> str:
    if path != facts.tree and _below(path, facts.tree):
        return posixpath.relpath(path, facts.tree)
    return path


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
