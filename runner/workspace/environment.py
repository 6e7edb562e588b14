"""Decides which variables a command sees: a list of what is let through, never of what is not."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING

from runner.errors import NotGranted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_PASSED = frozenset(
    {
        # who and where
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TZ", "LANG", "LANGUAGE"),
        *("TMPDIR", "TEMP", "TMP"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"),
        # where tools are and keep their caches
        *("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYENV_ROOT", "UV_CACHE_DIR"),
        *("PIP_CACHE_DIR", "POETRY_HOME", "PIPX_HOME", "PRE_COMMIT_HOME"),
        *("NVM_DIR", "NVM_BIN", "VOLTA_HOME", "FNM_DIR", "PNPM_HOME", "BUN_INSTALL", "DENO_DIR"),
        *("CARGO_HOME", "RUSTUP_HOME", "GOPATH", "GOROOT", "GOBIN", "GOCACHE", "GOMODCACHE"),
        *("JAVA_HOME", "GRADLE_USER_HOME", "GEM_HOME", "RBENV_ROOT", "ASDF_DIR", "ASDF_DATA_DIR"),
        *("MISE_DATA_DIR", "HOMEBREW_PREFIX", "SDKROOT", "DEVELOPER_DIR"),
        # which certificates the machine's owner trusts
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("NODE_EXTRA_CA_CERTS", "PIP_CERT"),
        # where traces go, but never the headers: they hold keys
        # (https://opentelemetry.io/docs/specs/otel/protocol/exporter/)
        *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    }
)
_SURE = 16
"""Characters from which the value of a variable that is named like a secret is taken for one."""
_ORDINARY = re.compile(r"[~./]|[a-z+]+://[^@]*$")
"""Begins a path or is an address: what a variable such as `KEY_FILE` or `TOKEN_URL` holds."""
_FIXED = {"TERM": "dumb", "CI": "1", "NO_COLOR": "1"}
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_SECRET = re.compile(
    r"(?:^|_)(?:API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|PAT|CREDENTIALS?"
    r"|AUTH|COOKIES?|DSN)(?:$|_)",
    re.IGNORECASE,
)


def clean_environment(
    *,
    base: Mapping[str, str],
    declared: Mapping[str, str],
    inherit: Iterable[str],
    secrets: Mapping[str, str],
    extra: Mapping[str, str],
) -> dict[str, str]:
    """Return the whole environment of a command.

    Later ones win: what is let through of `base`, `TERM=dumb CI=1 NO_COLOR=1`, what `inherit` names
    of `base`, `declared`, `secrets`, `extra`. Nothing else of `base` comes along: no loader or
    interpreter settings (`LD_*`, `PYTHON*`, `NODE_OPTIONS`, `BASH_ENV`), no `GIT_*`, no proxies, no
    keys. `PATH` loses its relative and empty entries wherever it comes from.

    Args:
        base: The runner's own environment.
        declared: What the step's `env` sets.
        inherit: Names that the step takes over from `base`; absent ones are left out.
        secrets: Values of the secrets that the step names and the user granted.
        extra: Variables of the runner itself.

    Raises:
        NotGranted: `inherit` names what looks like a secret and was not granted as one.
    """
    names = tuple(inherit)
    if asked := ungranted(names, secrets):
        raise NotGranted(
            f"the environment variable {asked[0]} looks like a secret and was not granted",
            hint=f"Name it under the step's `secrets:` and give --secret {asked[0]}.",
        )
    taken = {name: base[name] for name in names if name in base}
    passed = {name: value for name, value in base.items() if _is_passed(name)}
    merged = {**passed, **_FIXED, **taken, **declared, **secrets, **extra}
    merged["PATH"] = clean_path(merged.get("PATH", ""))
    return merged


def ungranted(inherit: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
    """Return the names in `inherit` that look like secrets and are not among `granted`."""
    known = frozenset(granted)
    return tuple(name for name in inherit if name not in known and _SECRET.search(name))


def secret_values(environ: Mapping[str, str], *, sure: bool = False) -> Iterator[str]:
    """Yield the values of variables that look like secrets, granted or not.

    A short one counts if there is a digit in it: `AUTH=disabled` hides no word of a text.

    Args:
        environ: Variables and their values.
        sure: Leave out paths, addresses and plain words, which texts may hold for other reasons.
    """
    for name in ungranted(environ, ()):
        value = environ[name]
        if sure and (_ORDINARY.match(value) or not any(char.isdigit() for char in value)):
            continue
        if len(value) >= _SURE or any(char.isdigit() for char in value):
            yield value


@cache
def clean_path(path: str) -> str:
    """Return a `PATH` without relative and empty entries: they mean whatever directory it is."""
    kept = [entry for entry in path.split(os.pathsep) if PurePath(entry).is_absolute()]
    return os.pathsep.join(dict.fromkeys(kept)) or _DEFAULT_PATH


def _is_passed(name: str) -> bool:
    return name in _PASSED or name.startswith("LC_")
