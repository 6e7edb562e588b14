"""Decides what to do where bubblewrap cannot make a sandbox, for just this machine. Pure."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Literal

from runner.frozen import frozen

Container = Literal["", "docker", "podman", "other"]

APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
USERNS = "kernel/unprivileged_userns_clone"
MOST = "user/max_user_namespaces"


@frozen(kw_only=True)
class Machine:
    """What the remedy depends on."""

    system: str
    """As Python names it: `linux`, `darwin`."""
    family: tuple[str, ...] = ()
    """`ID` and `ID_LIKE` of os-release(5)."""
    container: Container = ""
    root: bool = False
    sudo: bool = False
    switches: tuple[tuple[str, str], ...] = ()
    """Settings below `/proc/sys` that are there, with their values."""

    def switched(self, name: str) -> str:
        """Return a setting's value; empty where the kernel has none of it."""
        return dict(self.switches).get(name, "")


_INSTALLS = (
    (("debian", "ubuntu"), "apt-get install -y bubblewrap"),
    (("fedora", "rhel", "centos"), "dnf install -y bubblewrap"),
    (("arch",), "pacman -S bubblewrap"),
    (("alpine",), "apk add bubblewrap"),
    (("suse", "opensuse"), "zypper install bubblewrap"),
    (("nixos",), "add pkgs.bubblewrap to environment.systemPackages"),
)
IN_CONTAINER = (
    "start the container with: --security-opt seccomp=unconfined --security-opt"
    " apparmor=unconfined --security-opt systempaths=unconfined"
)
"""What of Docker's and Podman's defaults stops user namespaces and a new /proc."""


def to_install(machine: Machine) -> str:
    """Return the command that installs bubblewrap."""
    if machine.system != "linux":
        return "run it on Linux, in a virtual machine or a container, say"
    for family, command in _INSTALLS:
        if set(family) & set(machine.family):
            return _as_root(command, machine)
    return "install the package bubblewrap"


def to_allow(said: str, machine: Machine) -> str:
    """Return what lets bubblewrap make a sandbox, which said why it cannot."""
    if machine.switched(MOST) == "0":
        return _switch(MOST, "15000", machine)
    if machine.switched(USERNS) == "0":
        return _switch(USERNS, "1", machine)
    if machine.container:
        return IN_CONTAINER
    if machine.switched(APPARMOR) == "1":
        return _switch(APPARMOR, "0", machine)
    if "proc" in said:
        return "let this process mount a /proc: it runs in a sandbox or container that forbids it"
    return "let this process make user namespaces: something around it, a seccomp filter or a" \
        " security module, refuses them"  # fmt: skip


def _switch(name: str, value: str, machine: Machine) -> str:
    setting = f"{name.replace('/', '.')}={value}"
    return f"{_as_root(f'sysctl -w {setting}', machine)} (to keep it: /etc/sysctl.d)"


def _as_root(command: str, machine: Machine) -> str:
    return f"sudo {command}" if machine.sudo and not machine.root else command


def this_machine() -> Machine:
    """Look at the machine that this runs on."""
    return Machine(
        system=sys.platform,
        family=_family(),
        container=_container(),
        root=hasattr(os, "geteuid") and os.geteuid() == 0,
        sudo=shutil.which("sudo") is not None,
        switches=tuple(
            (name, value)
            for name in (APPARMOR, USERNS, MOST)
            if (value := _text(Path("/proc/sys", name)))
        ),
    )


def _family() -> tuple[str, ...]:
    found: list[str] = []
    for line in _text(Path("/etc/os-release")).splitlines():
        name, _, value = line.partition("=")
        if name in ("ID", "ID_LIKE"):
            found += value.strip("\"'").split()
    return tuple(found)


def _container() -> Container:
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    named = os.environ.get("container", "")  # noqa: SIM112  systemd.exec(5) writes it small
    return "other" if named or "kubepods" in _text(Path("/proc/1/cgroup")) else ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
