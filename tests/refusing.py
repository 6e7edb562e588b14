"""Ways in which real machines refuse a sandbox, made real around one command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache

WITHOUT_BUBBLEWRAP = (
    "for each in /usr/bin/bwrap /usr/local/bin/bwrap /run/current-system/sw/bin/bwrap; do"
    ' [ -e "$each" ] && mount --bind /dev/null "$each"; done; exec "$@"'
)
"""In mount and user namespaces of its own: the program is not there for whatever is started."""

WITHOUT_NAMESPACES = (
    "echo 0 > /proc/sys/user/max_user_namespaces;"
    ' exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
)
"""As where an administrator allows no user namespaces: no more of them, and no capabilities."""

_WITHOUT_LANDLOCK = r"""
import ctypes, os, platform, struct, sys
arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[platform.machine()]
def step(code, then, otherwise, value):
    return struct.pack("=HBBI", code, then, otherwise, value)
load, equal, answer = 0x20, 0x15, 0x06
allow, missing = 0x7FFF0000, 0x00050000 | 38
program = b"".join((
    step(load, 0, 0, 4), step(equal, 0, 2, arch),
    step(load, 0, 0, 0), step(equal, 1, 0, 444),
    step(answer, 0, 0, allow), step(answer, 0, 0, missing),
))
kept = ctypes.create_string_buffer(program)
filters = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
zero = ctypes.c_ulong(0)
assert libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) == 0
assert libc.prctl(22, ctypes.c_ulong(2), filters, zero, zero) == 0, ctypes.get_errno()
os.execvp(sys.argv[1], sys.argv[1:])
"""


def without_bubblewrap(*argv: str) -> list[str]:
    """Return the command that starts another where bubblewrap is not installed."""
    return _unshared(WITHOUT_BUBBLEWRAP, argv)


def without_namespaces(*argv: str) -> list[str]:
    """Return the command that starts another where user namespaces are refused."""
    return _unshared(WITHOUT_NAMESPACES, argv)


def without_landlock(*argv: str) -> list[str]:
    """Return the command that starts another on a kernel without Landlock, as a filter says."""
    return [sys.executable, "-c", _WITHOUT_LANDLOCK, *argv]


def _unshared(script: str, argv: tuple[str, ...]) -> list[str]:
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", *argv]


@cache
def why_not() -> str:
    """Say why none of these can be made here; empty where they can."""
    for name in ("unshare", "setpriv", "bwrap"):
        if shutil.which(name) is None:
            return f"{name} is not installed"
    made = subprocess.run(without_namespaces("true"), capture_output=True, check=False)
    return "" if made.returncode == 0 else f"no user namespaces: {made.stderr.decode()[:200]}"
