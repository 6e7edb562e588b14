"""Takes each protection out in turn and runs its tests: `python tests/protections.py [NAME...]`.

On a copy of the checkout in a temporary directory. A protection whose tests stay green without it
is `NOT RED`: nobody would notice it gone. Ends with 1 if there is one, or a patch no longer fits.
Second bolts are not among them, whose door is shut by another one too: `protocol.allow` and
`core.hooksPath` of our own git directory, say.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parent.parent
_COPIED = ("runner", "tests", "docs", "examples", "workflows", "agents", "pyproject.toml")
_SECONDS = 300


@dataclass(frozen=True)
class Patch:
    """One small change: a function that says at once what is harmless, or a piece of text."""

    name: str
    file: str
    where: str
    """A function as `Class.name`, which then begins with `instead`; or a text that it replaces."""
    instead: str
    tests: str
    only: str = ""
    """Expression for pytest's -k."""

    @property
    def is_function(self) -> bool:
        """Whether a function is meant."""
        return all(part.isidentifier() for part in self.where.split("."))


_SCOPE = "test_scope_attacks.py"
_BOX = "test_sandboxed.py"
# ruff: noqa: E501  a patch is one line of this table
PATCHES = (
    # judge
    Patch("tamper guard", "tamper/__init__.py", "findings", "return ()", "test_tamper.py"),
    Patch("tamper: suppressions", "tamper/suppressions.py", "added", "return", "test_tamper.py"),
    Patch("tamper: assertions", "tamper/asserts.py", "changed", "return", "test_tamper.py"),
    Patch("tamper: judges", "tamper/judges.py", "eased", "return", "test_tamper.py"),
    Patch("tamper: strictness", "tamper/judges.py", "_less_strict", "return", "test_tamper.py"),
    Patch("tamper: renames", "tamper/renames.py", "joined", "return tuple(files)", "test_tamper.py"),
    Patch("tamper guard in a mend", "engine/mend.py", "tampering=(*tampering, *(str(finding) for finding in found)),",
          "tampering=tampering,", "test_ladder.py", "suppression or edits_the_test"),
    # scope
    Patch("scope on the diff", "scope.py", "violations", "return ()", _SCOPE, "changed"),
    Patch("path rules", "scope.py", "_unsound", 'return ""', "test_scope.py"),
    Patch("case and unicode folding", "scope.py", "_fold", "return text", "test_scope.py"),
    Patch("always guarded paths", "scope.py", "guards = [Guard(why, globs) for why, globs in ALWAYS.items()]",
          "guards: list[Guard] = []", "test_scope.py"),
    Patch("tests are guarded", "scope.py", 'if nature == "test":\n        guards', 'if False:\n        guards', "test_scope.py"),
    Patch("links by their target", "scope.py", "_bad_link", 'return ""', "test_scope.py"),
    Patch("special modes and submodules", "scope.py", "_odd", 'return ""', "test_scope.py"),
    Patch("ignored environments", "engine/surroundings.py", "Surroundings._undo_installed", "return ()",
          "test_adversaries.py", "ignored-environment"),
    Patch("nested repositories", "engine/surroundings.py", "Surroundings._undo_nested", "return ()", _SCOPE, "without"),
    Patch(".git guard", "engine/surroundings.py", "Surroundings._undo_git", "return ()", "test_ladder.py", "commits_by_shell"),
    Patch("what runs while it is judged", "engine/mend.py", "Work._look_again", "return evidence",
          "test_adversaries.py", "planted_code"),
    Patch("restore keeps others' edits", "workspace/files.py", 'if now != expected:\n            return "external"',
          "expected = now", "test_tree.py", "edits_of_others"),
    # files of agents
    Patch("safe paths", "agentfiles.py", "AgentFiles.relative", "return os.path.relpath(path, self._root)", "test_tools.py"),
    Patch("no links on the way", "agentfiles.py", "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
          "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC", _SCOPE, "swapped"),
    Patch("write scope of tools", "agentfiles.py", "if not self._permit.allows(relative):", "if False:", "test_tools.py"),
    Patch("files that hold keys", "secretfiles.py", "is_secret", "return False", "test_tools.py"),
    Patch("refused tool calls", "toolset.py", "Hands.refusal", 'return ""', "test_tools.py"),
    Patch("shell needs a grant", "toolset.py", "if not hands.permit.shell:", "if False:", "test_tools.py"),
    # secrets
    Patch("masker", "workspace/masking.py", "Mask.spans", "return", "test_masking.py"),
    Patch("masker: streams", "workspace/masking.py", "MaskedStream.feed", "return chunk", "test_masking.py"),
    Patch("environment allow-list", "workspace/environment.py", "_is_passed", "return True", "test_environment.py"),
    Patch("relative PATH entries", "workspace/environment.py", "clean_path", "return path", "test_environment.py"),
    Patch("secrets need a grant", "workspace/environment.py", "ungranted", "return ()", "test_environment.py"),
    Patch("secret scan: lines", "secretscan.py", "Scanner.file", "return []", "test_secretscan.py"),
    Patch("secret scan: words", "secretscan.py", "Scanner.words", "return []", "test_secretscan.py"),
    Patch("secret scan: names", "secretscan.py", "Scanner.new_name", "return []", "test_secretscan.py"),
    Patch("secret scan at a commit", "git/leaks.py", "Leaks.refuse_tree", "return", "test_secretscan.py"),
    Patch("secret scan at a push", "git/leaks.py", "Leaks.refuse_push", "return", "test_secretscan.py"),
    # text
    Patch("fencing", "text.py", "fence", "return text", "test_text.py"),
    Patch("output cleaning", "text.py", "clean", "return text", "test_text.py"),
    Patch("caps", "text.py", "head_tail", "return text", "test_text.py"),
    # git
    Patch("hooks never run by git", "workspace/gitexec.py", '    "core.hooksPath=/dev/null",\n', "", "test_gitexec.py", "config_of"),
    Patch("fsmonitor (snapshots)", "workspace/gitexec.py", '    "core.fsmonitor=false",\n', "", "test_gitexec.py", "config_of"),
    Patch("control.git", "git/shadow.py", '"GIT_DIR": str(directory),\n        "GIT_COMMON_DIR": str(directory),',
          '"GIT_DIR": str(places.git_dir),\n        "GIT_COMMON_DIR": str(places.common_dir),', "test_git_attacks.py", "whole_road"),
    Patch("filters refused", "git/staging.py", "refuse_filtered", "return", "test_git_attacks.py"),
    Patch("remote addresses", "git/urls.py", "_refused", "return RuntimeError()", "test_git_push.py", "urls_that_are_refused"),
    Patch("branch names", "git/urls.py", "checked_branch", "return branch", "test_git_push.py", "branch_names"),
    Patch("hooks pinned", "git/hooks.py", "changed_hooks", "return ()", "test_git_hooks.py", "change_during"),
    Patch("guard undoes", "git/guarding.py", "Watch.undo", "return", "test_git_guard.py"),
    # money and models
    Patch("budget reservation", "money.py", "Purse.covers", "return True", "test_money.py"),
    Patch("prefix guard", "prefix.py", "extends", 'return ""', "test_prefix.py"),
    # runs
    Patch("lease", "lease.py", "held", "return False", "test_journal.py"),
    Patch("private state directory", "workspace/state.py", "_private", "return path", "test_state.py"),
    Patch("allowed by the user", "hook/trust.py", "is_allowed", "return True", "test_allow.py"),
    Patch("list of what is allowed is private", "hook/trust.py", "_check_private", "return", "test_allow.py"),
    Patch("processes ended", "workspace/processes.py", "Process._adopted", "return []", "test_commands.py"),
    # documents
    Patch("limits of a document", "loader/document.py", "_Builder._check", "return", "test_loader_document.py"),
    Patch("limits of an expression", "expressions/reading.py", "_check_nesting", "return", "test_expressions.py"),
    # sandbox
    Patch("sandbox", "sandbox/bubblewrap.py", "Bubblewrap.confine", "return command", _BOX, "alone or git_cannot"),
    Patch("sandbox: git read-only", "sandbox/mounts.py",
          'yield from (Mount("read", path, optional=True) for path in around.git)', "yield from ()", _BOX, "git"),
    Patch("sandbox: home", "sandbox/mounts.py", 'Mount("empty", around.home)', 'Mount("read", around.home)', _BOX, "alone or home"),
    Patch("sandbox: private directories", "sandbox/mounts.py", 'layers += [Mount("empty", path) for path in _PRIVATE]',
          'layers += [Mount("write", path) for path in _PRIVATE]', _BOX, "alone"),
    Patch("sandbox: hidden files", "sandbox/mounts.py", 'layers += [Mount("mask", path, "/dev/null") for path in around.hidden]',
          "pass", _BOX, "alone"),
    Patch("sandbox: scope of a mend", "sandbox/mounts.py", 'yield Mount("read", need.tree)\n', 'yield Mount("write", need.tree)\n',
          _BOX, "agents_shell"),
    Patch("sandbox: protected of a mend", "sandbox/mounts.py",
          'yield from (Mount("read", path, optional=True) for path in reach.keep)', "yield from ()", _BOX, "agents_shell"),
    Patch("sandbox: keys hidden from a mend", "sandbox/mounts.py",
          'yield from (Mount("mask", path, "/dev/null") for path in reach.hidden)', "yield from ()", _BOX, "agents_shell"),
    Patch("sandbox: caches of a mend", "sandbox/mounts.py", 'yield Mount("empty", cache.path)',
          'yield Mount("write", cache.path, str(cache.private))', "test_sandbox.py"),
    Patch("sandbox: network", "sandbox/bubblewrap.py", 'parts.append("--unshare-net")', "pass", _BOX, "without_network"),
    Patch("sandbox: processes", "sandbox/bubblewrap.py", '    "--unshare-pid",\n', "", _BOX, "alone or outlives"),
    Patch("sandbox: IPC", "sandbox/bubblewrap.py", '    "--unshare-ipc",\n', "", "test_namespaces.py"),
    Patch("sandbox: host name", "sandbox/bubblewrap.py", '    "--unshare-uts",\n', "", "test_namespaces.py"),
    Patch("sandbox: dies with the runner", "sandbox/bubblewrap.py", '"--die-with-parent", ', "", _BOX, "killed"),
    Patch("sandbox: session", "sandbox/bubblewrap.py", '"--new-session", ', "", "test_namespaces.py"),
    Patch("sandbox: capabilities", "sandbox/bubblewrap.py", '"--cap-drop", "ALL")', ")", _BOX, "alone"),
)  # fmt: skip


def patched(text: str, patch: Patch) -> str:
    """Return a module without its protection.

    Raises:
        LookupError: The patch no longer fits.
    """
    if not patch.is_function:
        if text.count(patch.where) != 1:
            msg = f"{patch.file}: the text stands there {text.count(patch.where)} times"
            raise LookupError(msg)
        return text.replace(patch.where, patch.instead)
    node: ast.AST = ast.parse(text)
    for part in patch.where.split("."):
        node = _named(node, part, patch)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    lines = text.splitlines(keepends=True)
    lines.insert(first.lineno - 1, f"{' ' * first.col_offset}{patch.instead}\n")
    return "".join(lines)


def _named(node: ast.AST, name: str, patch: Patch) -> ast.AST:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if named and child.name == name:
            return child
    msg = f"{patch.file}: there is no {patch.where}"
    raise LookupError(msg)


def run(copy: Path, patch: Patch) -> tuple[int, str]:
    """Run the tests of a protection in the copy; return pytest's exit code and its last words."""
    command = [sys.executable, "-m", "pytest", f"tests/{patch.tests}", "-q", "-x", "-n", "0"]
    command += ["-p", "no:cacheprovider", "-m", "", *(("-k", patch.only) if patch.only else ())]
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=env,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "took too long"
    return done.returncode, done.stdout.strip().rpartition("\n")[2]


def attempt(copy: Path, patch: Patch, *, green: bool) -> tuple[str, str]:
    """Take one protection out, look, and put it back; return what came of it and why."""
    if green:
        code, last = run(copy, patch)
        if code != 0:
            return "NOT GREEN BEFORE", last
    file = copy / "runner" / patch.file
    whole = file.read_text()
    try:
        file.write_text(patched(whole, patch))
        code, last = run(copy, patch)
    except LookupError as error:
        return "DOES NOT FIT", str(error)
    finally:
        file.write_text(whole)
    if code == 1 and " skipped" in last and "failed" not in last and "error" not in last:
        code = 0
    return ("red" if code == 1 else "NOT RED", last)


def main() -> int:
    """Go through the protections and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help="protections, by a piece of their name")
    parser.add_argument("--green", action="store_true", help="first see the tests pass")
    told = parser.parse_args()
    chosen = [p for p in PATCHES if not told.name or any(name in p.name for name in told.name)]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="protections-") as directory:
        copy = Path(directory).resolve()
        for name in _COPIED:
            if (TOP / name).is_dir():
                left_out = shutil.ignore_patterns("__pycache__")
                shutil.copytree(TOP / name, copy / name, ignore=left_out)
            elif (TOP / name).exists():
                shutil.copy(TOP / name, copy / name)
        for patch in chosen:
            began = time.monotonic()
            outcome, why = attempt(copy, patch, green=told.green)
            bad += outcome != "red"
            row = f"{patch.name:36} {outcome:16} {time.monotonic() - began:5.0f} s  {patch.tests}"
            sys.stdout.write(f"{row:92} {why[:90]}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} taken out, {bad} of them not noticed\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
