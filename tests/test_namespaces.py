"""What of the machine's kernel a command shares: nothing but the user's ids and the file system.

Each of it can be taken out by one option of bubblewrap, and nothing else would show it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scratch import make

from runner.sandbox.bubblewrap import find_program, try_out

PROGRAM = find_program()
HELD = PROGRAM is not None and try_out(PROGRAM).by == "bubblewrap"

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(not HELD, reason="bubblewrap is not here, or makes no sandbox"),
]

LOOK = """
steps:
  - id: it
    run: |
      for name in ipc uts pid net mnt; do echo $name=$(readlink /proc/self/ns/$name); done
      echo session=$(cut -d' ' -f6 /proc/self/stat)
"""


async def test_a_command_has_namespaces_and_a_session_of_its_own(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBRUNNER_SANDBOX")
    report = await make(world).run(LOOK)
    assert report.exit_code == 0, report
    log = report.steps[0].log
    assert log
    seen = dict(line.split("=", 1) for line in Path(log).read_text().splitlines() if "=" in line)
    for name in ("ipc", "uts", "pid", "net", "mnt"):
        assert seen[name].startswith(f"{name}:"), seen
        assert seen[name] != os.readlink(f"/proc/self/ns/{name}"), name  # noqa: PTH115  no path
    # Of a session of the machine's, no number would be known inside.
    assert int(seen["session"]) > 0
