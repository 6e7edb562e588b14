"""Pushes one commit to one branch of the recorded remote, never by force, and reads it back.

It runs in a bare directory of the runner's own, so that no configuration of the repository is
read. Credentials reach the git process by its environment only.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.facts import NotFastForward, Pushed, PushPlan
from runner.git.process import Done, run
from runner.git.shadow import config_line
from runner.git.urls import Remote, masked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.git.config import Settings
    from runner.git.facts import PushAuth
    from runner.git.shadow import Shadow

SECONDS = 900.0
"""Longest that one git process may talk to a remote."""
_FORWARD = ("fetch first", "non-fast-forward", "needs force", "stale info")
_USER_SECTIONS = ("http.", "credential.", "core.sshcommand", "ssh.")
_NETWORK = (
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"),
    *("NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"),
    # What credential helpers find the user's key ring by.
    *("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "GH_CONFIG_DIR"),
)
"""Variables of the user's own that reach the process that talks to a remote, and no other."""


@frozen
class Target:
    """Where a push goes and as whom."""

    name: str
    remote: Remote
    ref: str
    auth: PushAuth
    header: str = ""
    """Authorization header that the CI system's checkout left; empty without the grant."""


class Courier:
    """Talks to remotes from a bare directory of its own."""

    def __init__(self, shadow: Shadow, user: Settings, directory: Path) -> None:
        self._shadow = shadow
        self._user = user
        self._directory = directory

    def _make(self, target: Target) -> None:
        """Make the bare directory anew: what an earlier push left in it does not count."""
        if self._directory.exists():
            shutil.rmtree(self._directory)
        (self._directory / "refs" / "heads").mkdir(parents=True, mode=0o700)
        (self._directory / "objects").mkdir()
        (self._directory / "HEAD").write_text("ref: refs/heads/none\n", "utf-8")
        (self._directory / "shallow").symlink_to(self._shadow.places.common_dir / "shallow")
        text = _config_text(self._shadow, self._user, target)
        (self._directory / "config").write_text(text, "utf-8", "surrogateescape")
        (self._directory / "config").chmod(0o600)

    async def plan(self, target: Target, sha: str, local_ref: str) -> PushPlan:
        """Ask the remote where the ref is now."""
        now = await self.remote_sha(target)
        return PushPlan(
            remote=target.name,
            url=target.remote.url,
            local_ref=local_ref or "HEAD",
            sha=sha,
            remote_ref=target.ref,
            remote_sha=now or "0" * len(sha),
        )

    async def remote_sha(self, target: Target) -> str:
        """Return what the remote ref is; empty when it does not exist."""
        done = await self._talk(target, "ls-remote", "--", target.remote.url, target.ref)
        if done.code != 0:
            raise _failed("cannot be read", target, done)
        for line in done.out.decode("utf-8", "replace").splitlines():
            sha, _, name = line.partition("\t")
            if name == target.ref:
                return sha
        return ""

    async def push(self, target: Target, sha: str) -> Pushed | NotFastForward:
        """Push *sha* and read it back."""
        refspec = f"{sha}:{target.ref}"
        flags = ("--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")
        done = await self._talk(target, "push", *flags, "--", target.remote.url, refspec)
        verdict = _rejection(done)
        if verdict == "behind":
            return _not_forward(target, done)
        if done.code != 0:
            raise _failed("refused the push", target, done)
        there = await self.remote_sha(target)
        if there != sha:
            raise GitRefused(
                f"after the push {target.ref} of {target.name!r} is at {there or 'nothing'}, "
                f"not at {sha}",
                hint="somebody else pushed at the same moment, or the remote rewrites commits",
            )
        return Pushed(target.name, target.ref, sha)

    async def fetch(self, target: Target) -> str:
        """Fetch the remote branch into the repository's objects and return its commit."""
        refspec = f"+{target.ref}:refs/heads/fetched"
        flags = ("--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--no-auto-gc")
        done = await self._talk(target, "fetch", *flags, "--", target.remote.url, refspec)
        if done.code != 0:
            raise _failed("cannot be fetched from", target, done)
        return (self._directory / "refs/heads/fetched").read_text("utf-8").strip()

    async def _talk(self, target: Target, *args: str) -> Done:
        self._make(target)
        env = {
            key: value
            for key, value in self._shadow.environment.items()
            if key not in ("GIT_WORK_TREE", "GIT_INDEX_FILE")
        }
        env |= {
            "GIT_DIR": str(self._directory),
            "GIT_COMMON_DIR": str(self._directory),
            "GIT_ALLOW_PROTOCOL": target.remote.protocol,
            "GIT_PROTOCOL_FROM_USER": "0",
        }
        env |= {name: os.environ[name] for name in _NETWORK if name in os.environ}
        env |= {**_credentials(target), **_ssh(target, self._user)}
        return await run(
            [self._shadow.git, "--no-pager", *args], env=env, cwd=self._directory, seconds=SECONDS
        )


def _config_text(shadow: Shadow, user: Settings, target: Target) -> str:
    own = {
        "core.repositoryformatversion": "1",
        "core.bare": "true",
        "core.hookspath": "/dev/null",
        "core.fsmonitor": "false",
        "core.logallrefupdates": "false",
        "gc.auto": "0",
        "maintenance.auto": "false",
        "protocol.allow": "never",
        "push.gpgsign": "false",
        "push.followtags": "false",
        "transfer.fsckobjects": "true",
        "submodule.recurse": "false",
    }
    lines = [config_line(key, value) for key, value in own.items()]
    if shadow.object_format:
        lines.append(config_line("extensions.objectformat", shadow.object_format))
    helpers = target.auth.kind in ("auto", "helper") and not _bearer(target)
    for key, values in user.values.items():
        if not key.startswith(_USER_SECTIONS):
            continue
        if key.startswith("credential.") and not helpers:
            continue
        lines += [config_line(key, value) for value in values]
    # A redirected request would carry the credentials to another host.
    lines.append(config_line("http.followredirects", "false"))
    return "".join(lines)


def _bearer(target: Target) -> str:
    """Return the header that says who we are; empty when a helper or ssh does."""
    if target.remote.protocol not in ("https", "http"):
        return ""
    if target.auth.kind in ("secret", "auto") and target.auth.secret:
        name = target.auth.username or target.remote.username or "x-access-token"
        token = base64.b64encode(f"{name}:{target.auth.secret}".encode()).decode()
        return f"Authorization: Basic {token}"
    return target.header if target.auth.trust_checkout else ""


def _credentials(target: Target) -> Mapping[str, str]:
    header = _bearer(target)
    if not header:
        return {}
    parts = urlsplit(target.remote.url)
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{origin}.extraHeader",
        "GIT_CONFIG_VALUE_0": header,
    }


def _ssh(target: Target, user: Settings) -> Mapping[str, str]:
    if target.remote.protocol != "ssh":
        return {}
    command = user.get("core.sshcommand") or "ssh -oBatchMode=yes"
    env = {"GIT_SSH_COMMAND": command}
    if "SSH_AUTH_SOCK" in os.environ:
        env["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
    return env


def _rejection(done: Done) -> Literal["", "behind"]:
    """Read `--porcelain` output: a rejected ref's line begins with `!`."""
    for line in done.out.decode("utf-8", "replace").splitlines():
        if line.startswith("!\t") and any(f"({word})" in line for word in _FORWARD):
            return "behind"
    return ""


def _not_forward(target: Target, done: Done) -> NotFastForward:
    place = shlex.join([target.name, target.ref.removeprefix("refs/heads/")])
    return NotFastForward(
        remote=target.name,
        ref=target.ref,
        detail=_said(done),
        rebase=False,
        command=f"git pull --rebase {place} && git push {place}",
    )


def _failed(what: str, target: Target, done: Done) -> GitRefused:
    said = _said(done)
    hint = ""
    if re.search(r"could not read (?:Username|Password)|Authentication failed|40[13]", said):
        hint = "grant a token: `push: {auth: secret:NAME}` and --secret NAME"
    elif "Permission denied (publickey" in said or "Host key verification failed" in said:
        hint = f"`ssh -T {target.remote.host}` must work without a question"
    elif "redirect" in said:
        hint = "the remote has moved: git remote set-url to its new address"
    return GitRefused(f"{target.name!r} ({masked(target.remote.url)}) {what}: {said}", hint=hint)


def _said(done: Done) -> str:
    lines = [*done.err.decode("utf-8", "replace").splitlines()]
    lines += [line for line in done.out.decode("utf-8", "replace").splitlines() if line[:1] == "!"]
    kept = ["".join(char for char in line if char.isprintable()).strip() for line in lines]
    return "; ".join(line for line in kept if line)[:1000] or f"exit {done.code}"


def checkout_header(repository: Settings, remote: Remote) -> str:
    """Return the header that a CI checkout left for *remote*'s host in the configuration."""
    if remote.protocol != "https":
        return ""
    wanted = f"https://{remote.host}/"
    for prefix, values in repository.sub("http", "extraheader"):
        header = values[-1]
        if wanted.startswith(prefix.rstrip("/") + "/") and "\n" not in header:
            return header
    return ""
