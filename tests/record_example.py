"""Records the cassette of `examples/09_cassette.py` anew: python tests/record_example.py.

To be done when the bytes of a request change on purpose: an agent's instructions, a tool.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from provider import Answer, Ask, Call, Reply, Tokens, serving

from runner import Options, run_sync

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CASSETTE = EXAMPLES / "09_cassette"


def mends(ask: Ask) -> Reply:
    """Answer as a model would that mends a misspelt word."""
    if "Edited" in ask.text:
        end = Call("done", {"summary": "The greeting was misspelt."})
        return Answer(calls=(end,), tokens=Tokens(input=1700, output=40))
    edit = {"path": "greeting.txt", "old_text": "helo", "new_text": "hello"}
    calls = (Call("edit_file", edit),)
    return Answer("The greeting is misspelt.", calls, Tokens(input=1560, output=90))


def main() -> None:
    """Record in a folder as the example makes it, in a home of its own."""
    found = re.search(
        r'WORKFLOW = """(.*?)"""', (EXAMPLES / "09_cassette.py").read_text(), re.DOTALL
    )
    assert found
    with tempfile.TemporaryDirectory() as name, serving(mends) as provider:
        home, folder = Path(name).resolve(), Path(name).resolve() / "folder"
        folder.mkdir()
        for variable in [one for one in os.environ if one.endswith(("_API_KEY", "_BASE_URL"))]:
            del os.environ[variable]
        os.environ |= {"HOME": str(home), "XDG_CONFIG_HOME": name, "XDG_STATE_HOME": name}
        os.environ |= {"ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_KEY": "test-key"}
        (folder / "workflow.yaml").write_text(found[1])
        (folder / "greeting.txt").write_text("helo world\n")
        shutil.rmtree(CASSETTE, ignore_errors=True)
        report = run_sync(folder / "workflow.yaml", cwd=folder, options=Options(record=CASSETTE))
        assert report.exit_code == 7, report


if __name__ == "__main__":
    main()
