"""Says whether the process that opened a run still lives, and who it is.

A lease is a file lock, which the kernel gives back when its holder dies, however it dies: that
holds across containers, reused process ids and copied state directories. Where files cannot be
locked, the holder's identity (host, boot, process id, start time) decides.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from runner.errors import UsageError
from runner.frozen import frozen

_TRIES = 5
"""Somebody who only looks holds a shared lock for a moment; so one refusal proves nothing."""
_PAUSE = 0.005


@frozen
class Holder:
    """Who holds a lease."""

    host: str
    boot: str
    """The kernel's id of this boot; empty where there is none."""
    pid: int
    started: str
    """The process's start time in the kernel's ticks since boot; empty where it is not known."""


def myself() -> Holder:
    """Return this process."""
    pid = os.getpid()
    return Holder(os.uname().nodename, _boot_id(), pid, _start_of(pid) or "")


class Lease:
    """A held lease; `release` gives it up, and so does the end of the process."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Lease | None:
        """Take the lease at `path`, or return `None` when somebody holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)
            except OSError as error:
                if not _unsupported(error):
                    os.close(descriptor)
                    raise
                return cls(path, descriptor)
            else:
                return cls(path, descriptor)
        os.close(descriptor)
        return None

    def release(self) -> None:
        """Give the lease up. May be called twice."""
        if self._descriptor is None:
            return
        # The file goes while it is still locked, so that nobody else's is removed.
        with suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None


def held(path: Path, holder: Holder) -> bool:
    """Return whether the lease at `path`, taken by `holder`, is still held."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _lives(holder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if not _unsupported(error):
            raise
        return _lives(holder)
    finally:
        os.close(descriptor)
    return False


NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "fuse.glusterfs"),
        *("lustre", "gpfs", "beegfs", "orangefs", "fuse.sshfs", "fuse.rclone", "fuse.s3fs"),
    }
)
"""File systems that other machines write to as well: SQLite's locks do not hold there
(https://www.sqlite.org/wal.html, "all processes using a database must be on the same host")."""


def network_file_system(path: str, mounts: str) -> str:
    """Return the type of the network file system that a path lies on; empty where it is none.

    Args:
        path: Absolute, without links.
        mounts: What proc(5) has in `mountinfo`.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = fields[4].encode().decode("unicode_escape")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind if kind in NETWORK else ""


def refuse_network(directory: Path) -> None:
    """Refuse to keep runs where locks do not hold; elsewhere than on Linux nobody can tell.

    Raises:
        UsageError: The directory lies on a network file system.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return
    kind = network_file_system(str(directory.resolve()), mounts)
    if kind:
        raise UsageError(
            f"the state directory {directory} lies on a network file system ({kind}), "
            "where locks do not hold",
            hint="Choose a local one with --state-dir",
        )


def _unsupported(error: OSError) -> bool:
    return error.errno in {errno.ENOTSUP, errno.ENOLCK, errno.EINVAL, errno.ENOSYS}


def _lives(holder: Holder) -> bool:
    """Whether that very process lives here; one of another host or boot counts as dead."""
    me = myself()
    if (holder.host, holder.boot) != (me.host, me.boot):
        return False
    started = _start_of(holder.pid)
    if started is not None:
        return started == holder.started
    return not holder.started and _exists(holder.pid)


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _start_of(pid: int) -> str | None:
    """Field 22 of proc(5)'s `stat`; `None` without such a process (a zombie is none) or file."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name, field 2, may hold blanks and parentheses.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
