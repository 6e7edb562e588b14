"""Habits of tests and build tools, each as a step: what works outside works in the sandbox.

One workflow has all habits and is run twice, without and with the sandbox. A habit that WORKS must
pass in both; where it does not pass outside (no IPv6, say) there is nothing to compare.
What is KEPT from commands passes outside and must fail in the sandbox.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import scratch
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.plan import SandboxMode

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed"),
]


@dataclass(frozen=True)
class Habit:
    """What a suite does as a matter of course."""

    name: str
    run: str
    needs: str = ""
    """The program that it needs."""


def python(name: str, code: str) -> Habit:
    """A habit of a Python program."""
    return Habit(name, f"\"$PYTHON\" - <<'END'\n{code}\nEND")


WORKS = (
    # Who and where
    Habit("own-name", 'test -n "$(id -un)" && test "$(id -un)" = "$(whoami)"'),
    python(
        "passwd-entry",
        "import os, pwd\n"
        "assert pwd.getpwuid(os.getuid()).pw_name\n"
        "assert pwd.getpwuid(os.getuid()).pw_dir.startswith('/')",
    ),
    Habit("tree-is-own", 'test -O . && test -O calc.py && test "$(stat -c %u .)" = "$(id -u)"'),
    Habit("home-is-there", "cd && test -w . && mkdir -p .config/x && echo 1 > .config/x/y"),
    Habit("cache-directory", "mkdir -p ~/.cache/some-tool && echo 1 > ~/.cache/some-tool/x"),
    python("host-name", "import socket\nassert socket.gethostname()"),
    Habit("time-zone", 'test "$(date +%Z%z)" = "$OUTER_ZONE"'),
    python(
        "named-time-zone",
        "import time, os\nos.environ['TZ'] = 'Europe/Berlin'\ntime.tzset()\n"
        "assert time.localtime(1700000000).tm_hour == 23, time.tzname",
    ),
    Habit("locale", "LC_ALL=C.UTF-8 locale charmap 2>&1 | grep -x UTF-8"),
    Habit("terminal-descriptions", "test $(tput -T xterm colors) = 8", needs="tput"),
    # Files
    Habit("temporary-files", 'f=$(mktemp) && d=$(mktemp -d) && echo x > "$d/f" && rm -r "$f" "$d"'),
    Habit("var-tmp", "mktemp -p /var/tmp"),
    Habit("programs-in-tmp", "cp /bin/true /tmp/own-true && /tmp/own-true"),
    Habit("large-temporary-file", "head -c 64M /dev/zero > /tmp/large && rm /tmp/large"),
    Habit("links", "ln calc.py hard && ln -s calc.py soft && test hard -ef soft"),
    Habit("named-pipe", "mkfifo pipe && (echo hi > pipe &) && read -r x < pipe && test $x = hi"),
    Habit(
        "modes", "touch m && chmod 4711 m && chown $(id -u):$(id -g) m && chmod 000 m && rm -f m"
    ),
    Habit("move-to-tmp", "echo x > moved && mv moved /tmp/moved && mv /tmp/moved moved"),
    python(
        "locks",
        "import fcntl\nfile = open('lock', 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)",
    ),
    python(
        "sqlite",
        "import sqlite3\ndb = sqlite3.connect('db.sqlite')\n"
        "assert db.execute('pragma journal_mode=wal').fetchone()[0] == 'wal'\n"
        "db.execute('create table t (x)'); db.commit()",
    ),
    python("extended-attributes", "import os\nos.setxattr('calc.py', 'user.x', b'1')"),
    python(
        "memory-map",
        "import mmap\nf = open('mapped', 'w+b'); f.truncate(4096)\nmmap.mmap(f.fileno(), 0)[0] = 1",
    ),
    python(
        "watch-files",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nfd = libc.inotify_init1(0)\n"
        "assert libc.inotify_add_watch(fd, b'.', 0x100) >= 0\n"
        "open('watched', 'w').close()\nassert os.read(fd, 4096)",
    ),
    Habit("free-space", "df . /tmp > /dev/null"),
    # Devices
    Habit("devices", "head -c 1 /dev/zero && head -c 1 /dev/urandom && echo > /dev/null"),
    Habit("standard-streams", "echo a > /dev/stdout && cat < /dev/stdin && cat <(echo b)"),
    python(
        "full-device", "try:\n    open('/dev/full', 'w', 1).write('x\\n')\nexcept OSError: pass"
    ),
    python(
        "terminal",
        "import os, pty, select\npid, fd = pty.fork()\n"
        "if not pid: os.execvp('sh', ['sh', '-c', 'test -t 0 && tty && echo yes > /dev/tty'])\n"
        "said = b''\n"
        "try:\n    while chunk := os.read(fd, 99): said += chunk\nexcept OSError: pass\n"
        "assert b'yes' in said and b'/dev/pts/' in said, said\nassert os.wait()[1] == 0",
    ),
    Habit("script", "script -qec 'test -t 1 && stty size' /dev/null", needs="script"),
    python(
        "shared-memory",
        "from multiprocessing import shared_memory\n"
        "m = shared_memory.SharedMemory(create=True, size=2**22)\nm.buf[0] = 1\nm.unlink()",
    ),
    # Processes
    python(
        "pool-of-processes",
        "import multiprocessing as m\n"
        "with m.get_context('fork').Pool(2) as pool: assert pool.map(abs, [-1]) == [1]\n"
        "m.Semaphore(1).acquire()",
    ),
    Habit("other-processes", "sleep 9 & ps -p $! > /dev/null && kill $! && ! wait $!", needs="ps"),
    Habit("job-control", "set -m; sleep 9 & kill -TERM -- -$!; ! wait $!"),
    Habit("sessions", "setsid -w true && timeout 5 true && nice true"),
    Habit("processors", 'test "$(nproc)" = "$OUTER_CORES"'),
    Habit(
        "proc",
        "grep -q MemTotal /proc/meminfo && grep -q cpu /proc/stat && test -e /proc/self/fd/1",
    ),
    python(
        "kernel-settings",
        "open('/proc/sys/kernel/random/boot_id').read()\nopen('/proc/loadavg').read()",
    ),
    Habit("limits", "ulimit -c 0 && ulimit -Sn $(ulimit -Hn) && ulimit -Ss 8192"),
    Habit("tracing", "strace -f -o /tmp/trace true && test -s /tmp/trace", needs="strace"),
    Habit(
        "compiler", "echo 'int main(){return 0;}' > /tmp/x.c && cc /tmp/x.c -o x && ./x", needs="cc"
    ),
    # Sockets
    python(
        "loopback",
        "import socket\nfor host in ('127.0.0.1', 'localhost', '127.0.0.2', '0.0.0.0'):\n"
        "    s = socket.create_server((host, 0))\n"
        "    to = '127.0.0.1' if host[0] == '0' else host\n"
        "    socket.create_connection((to, s.getsockname()[1]), 5)\n"
        "    s.accept()",
    ),
    python(
        "loopback-ipv6",
        "import socket\ns = socket.create_server(('::1', 0), family=socket.AF_INET6)\n"
        "socket.create_connection(('::1', s.getsockname()[1]), 5)",
    ),
    python(
        "datagrams",
        "import socket\na, b = (socket.socket(type=socket.SOCK_DGRAM) for _ in 'ab')\n"
        "a.bind(('127.0.0.1', 0))\nb.sendto(b'x', a.getsockname())\nassert a.recv(1) == b'x'",
    ),
    Habit("local-names", "getent hosts localhost && getent ahosts 127.0.0.1"),
    python(
        "unix-sockets",
        "import socket, tempfile\n"
        "for name in (tempfile.mkdtemp() + '/s', '\\0abstract-of-ours', 's'):\n"
        "    s = socket.socket(socket.AF_UNIX)\n    s.bind(name)\n    s.listen()\n"
        "    socket.socket(socket.AF_UNIX).connect(name)",
    ),
    python(
        "web-server",
        "import http.server, threading, urllib.request\n"
        "s = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=s.handle_request, daemon=True).start()\n"
        "url = f'http://localhost:{s.server_port}/calc.py'\n"
        "assert urllib.request.urlopen(url, timeout=5).read()",
    ),
    # Git
    Habit(
        "git-reads",
        "git status --short && git log -1 --oneline && git diff && git describe --always",
    ),
    Habit(
        "git-in-tmp",
        "cd $(mktemp -d) && git init -q && echo 1 > f && git add f && git commit -qm x",
    ),
    Habit(
        "git-clone-of-tree", "d=$(mktemp -d) && git clone -q . $d/c && git -C $d/c log -1 --oneline"
    ),
    # Tools
    Habit(
        "virtual-environment", '"$PYTHON" -m venv --without-pip v && v/bin/python -c "import json"'
    ),
    Habit("certificates", "test ! -d /etc/ssl/certs || ls /etc/ssl/certs/* > /dev/null"),
    Habit("gpg", "h=$(mktemp -d) && gpg --homedir $h --batch --list-keys", needs="gpg"),
    Habit("node", "node -e 'require(\"os\").cpus().length || process.exit(1)'", needs="node"),
)

KEPT = (
    Habit("files-of-home", 'cat "$OUTER_HOME/.netrc"'),
    Habit("keys-of-ssh", 'cat "$OUTER_HOME/.ssh/id_ed25519"'),
    Habit("files-beside-the-tree", "cat ../sentinel"),
    Habit("files-of-tmp", 'cat "$OUTER_TMP"'),
    Habit("write-to-usr", "touch /usr/bin/true"),
    Habit("write-to-git", "git tag sandboxed && git tag -d sandboxed"),
    Habit("write-hooks", "echo x > .git/hooks/pre-push && rm .git/hooks/pre-push"),
    Habit("commit", "git commit -q --allow-empty -m x"),
    Habit("processes-of-others", 'kill -0 "$OUTER_PID"'),
    Habit("their-variables", 'cat "/proc/$OUTER_PID/environ"'),
    Habit(
        "services-of-others",
        '"$PYTHON" -c "import socket; socket.create_connection((\'127.0.0.1\', $OUTER_PORT), 5)"',
    ),
    Habit(
        "abstract-sockets-of-others",
        '"$PYTHON" -c "import socket; s = socket.socket(socket.AF_UNIX);'
        " s.connect(chr(0) + '$OUTER_NAME')\"",
    ),
)


@pytest.fixture
def outer(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What a command could see of the machine, were it not for the sandbox."""
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("TMPDIR", str(world / "their-tmp"))
    (world / "their-tmp").mkdir()
    home = Path(os.environ["HOME"])
    (home / ".netrc").write_text("secret\n")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519").write_text("secret\n")
    (world / "sentinel").write_text("x\n")
    name = f"runner-habits-{os.getpid()}"
    with (
        tempfile.NamedTemporaryFile("w", dir="/tmp") as file,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind(f"\0{name}")
        abstract.listen()
        yield {
            "PYTHON": sys.executable,
            "OUTER_HOME": str(home),
            "OUTER_TMP": file.name,
            "OUTER_PID": str(os.getpid()),
            "OUTER_PORT": str(server.getsockname()[1]),
            "OUTER_NAME": name,
            "OUTER_ZONE": time.strftime("%Z%z"),
            "OUTER_CORES": str(len(os.sched_getaffinity(0))),
        }


async def run_habits(
    where: Path, habits: Sequence[Habit], env: Mapping[str, str], sandbox: SandboxMode
) -> dict[str, str]:
    """Run each habit as a step; return why those failed that did, by their names."""
    world = where / sandbox
    world.mkdir()
    repository = scratch.make(world)
    (world / "sentinel").write_text("x\n")
    steps: list[object] = [
        {"id": habit.name, "needs": list[str](), "run": habit.run} for habit in habits
    ]
    workflow: dict[str, object] = {
        "name": "habits",
        "defaults": {"env": dict(env), "timeout": 30},
        "steps": steps,
    }
    report = await repository.run(yaml.safe_dump(workflow), sandbox=sandbox, jobs=4)
    assert report.sandbox == {"off": "off", "require": "bubblewrap"}.get(sandbox)
    return {
        step.id: f"{step.reason} {Path(step.log).read_text() if step.log else ''}"
        for step in report.steps
        if step.status != "succeeded"
    }


def here(habits: Sequence[Habit]) -> list[Habit]:
    """Return those whose programs are installed."""
    return [habit for habit in habits if not habit.needs or shutil.which(habit.needs)]


async def test_what_suites_do_as_a_matter_of_course_works(
    world: Path, outer: dict[str, str]
) -> None:
    habits = here(WORKS)
    outside = await run_habits(world, habits, outer, "off")
    inside = await run_habits(world, habits, outer, "require")
    only_inside = {name: why for name, why in inside.items() if name not in outside}
    assert only_inside == {}
    # Most of the table must have been compared at all.
    assert len(outside) <= len(habits) // 4, outside


async def test_what_is_the_machines_own_is_kept_from_commands(
    world: Path, outer: dict[str, str]
) -> None:
    outside = await run_habits(world, KEPT, outer, "off")
    assert set(outside) <= {"write-to-usr"}, outside  # only root may
    inside = await run_habits(world, KEPT, outer, "require")
    assert {habit.name for habit in KEPT} - set(inside) == set()
