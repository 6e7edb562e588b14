"""Readers of traces for tests: a real Jaeger and a real Phoenix, each in a process of its own.

Where they are: SUBRUNNER_TEST_JAEGER and SUBRUNNER_TEST_PHOENIX, else `jaeger` and `phoenix` on
PATH; `.ci/readers.sh` installs them. Read before a test runs: tests see no variables of ours.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

JAEGER = os.environ.get("SUBRUNNER_TEST_JAEGER") or shutil.which("jaeger")
PHOENIX = os.environ.get("SUBRUNNER_TEST_PHOENIX") or shutil.which("phoenix")

CONFIG = """\
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 1000}}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http}"}}
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory}}
"""


@dataclass(frozen=True)
class Server:
    """A reader that is running."""

    otlp: str
    """Where it takes traces."""
    api: str
    """Where it is asked."""
    grpc: str = ""
    """Where it takes traces by gRPC."""

    def get(self, path: str) -> Any:
        """Ask it."""
        return self.ask(Request(f"{self.api}{path}"))

    def post(self, path: str, body: bytes, kind: str = "application/json") -> Any:
        """Send it something."""
        return self.ask(Request(f"{self.api}{path}", body, {"content-type": kind}))

    def ask(self, request: Request) -> Any:
        """Send a request and read its JSON."""
        with urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens at; all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


@contextmanager
def jaeger(where: Path) -> Generator[Server]:
    """Run Jaeger, all in memory."""
    assert JAEGER is not None, "who asks for it looks first"
    query, query_grpc, http, grpc = free_ports(4)
    config = where / "jaeger.yaml"
    config.write_text(CONFIG.format(query=query, query_grpc=query_grpc, http=http, grpc=grpc))
    server = Server(
        f"http://127.0.0.1:{http}", f"http://127.0.0.1:{query}", f"http://127.0.0.1:{grpc}"
    )
    with _running([JAEGER, "--config", str(config)], where / "jaeger.log", {}):
        _wait(f"{server.api}/api/v3/services", where / "jaeger.log")
        yield server


@contextmanager
def phoenix(where: Path) -> Generator[Server]:
    """Run Phoenix, with what reaches out of it switched off."""
    assert PHOENIX is not None, "who asks for it looks first"
    port, grpc = free_ports(2)
    (where / "phoenix").mkdir()
    env = {
        "PHOENIX_WORKING_DIR": str(where / "phoenix"),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        "PHOENIX_AGENTS_DISABLE_BASH": "true",
        "PHOENIX_AGENTS_DISABLE_WEB_ACCESS": "true",
        "PHOENIX_AGENTS_DISABLE_GITHUB": "true",
    }
    server = Server(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
    with _running([PHOENIX, "serve"], where / "phoenix.log", env):
        _wait(f"{server.api}/healthz", where / "phoenix.log", seconds=240)
        yield server


@contextmanager
def _running(argv: list[str], log: Path, env: Mapping[str, str]) -> Generator[None]:
    with (
        log.open("wb") as out,
        subprocess.Popen(argv, env={**os.environ, **env}, stdout=out, stderr=out) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(url: str, log: Path, seconds: float = 30) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urlopen(url, timeout=5).close()
        except (URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} does not answer:\n{log.read_text(errors='replace')[-2000:]}")
