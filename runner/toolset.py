"""The agents' tools: their definitions on the wire, and what each call may do here and now.

The definitions are ours, short and fixed; the harness does the reading and the exact editing. A
call that cannot be served is answered with the reason, never raised: only malformed arguments count
against the retries of a run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field
from pydantic_ai import RunContext, Tool
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.toolsets import FunctionToolset, ToolsetTool, WrapperToolset
from pydantic_ai_harness.filesystem import FileSystemToolset

from runner.agentfiles import AgentFiles
from runner.brief import delegate_report
from runner.events import ToolCalled
from runner.text import clean, fence, head_tail, one_line
from runner.tools import DelegateItem, Permit
from runner.workspace.commands import Command, run_command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from runner.brief import DelegateReport
    from runner.events import Sink
    from runner.plan import ValueType

    Delegate = Callable[[Sequence[DelegateItem], str], Awaitable[Sequence[DelegateReport]]]

MOST_CALLS = 16
"""Tool calls of one response that are served; the rest is refused."""
MOST_FLOODS = 3
"""Responses of one attempt with more calls than that; the next call ends the attempt."""
MOST_ITEMS = 20
"""Items of one `delegate` call."""
_MOST_REPEATS = 2
"""Times that one and the same call is served in a row."""
_RESULT_BYTES = 20_000
_OUTPUT_BYTES = 6_000
_MOST_SHELL_SECONDS = 300
_SHOWN = ("command", "pattern", "path", "glob", "tasks")


class FloodError(Exception):
    """Raised when an agent keeps calling more tools at once than are served."""


@dataclass(slots=True, kw_only=True)
class Hands:
    """What the tools of one attempt work with; the model never sees any of it."""

    permit: Permit
    step: str
    emit: Sink
    token: str
    outputs: Mapping[str, ValueType]
    """The outputs that the answer must have."""
    delegate: Delegate | None = None
    files: AgentFiles = field(init=False)
    _step: int = -1
    _calls: int = 0
    _floods: int = 0
    _last: str = ""
    _repeats: int = 0

    def __post_init__(self) -> None:
        self.files = AgentFiles(self.permit)

    def refusal(self, tool: str, arguments: Mapping[str, Any], run_step: int) -> str:
        """Say why a call is not served; empty when it is.

        Raises:
            FloodError: Once more too many calls in one response.
        """
        if run_step != self._step:
            self._step, self._calls = run_step, 0
        self._calls += 1
        if self._calls > MOST_CALLS:
            # Each refused call costs time and tokens as well: nobody may go on like that.
            self._floods += self._calls == MOST_CALLS + 1
            if self._floods >= MOST_FLOODS:
                raise FloodError(
                    f"{MOST_FLOODS} responses with more than {MOST_CALLS} tool calls each"
                )
            return f"More than {MOST_CALLS} calls in one response: call this again later."
        call = json.dumps([tool, arguments], sort_keys=True, default=str)
        self._repeats = self._repeats + 1 if call == self._last else 0
        self._last = call
        if self._repeats >= _MOST_REPEATS:
            return "The same call again gives the same result. Do something else, or say `cannot`."
        if tool != "delegate" and tool not in self.permit.tools:
            return f"`{tool}` is not permitted here."
        return ""


class DelegateTask(BaseModel):
    """Either `step`, or `agent` and `task`."""

    step: str = Field(default="", description="Id of a declared `run` step.")
    agent: str = Field(default="", description="Name of an agent.")
    task: str = Field(default="", description="What that agent shall do; it sees nothing else.")


_HARNESS: FileSystemToolset[Any] = FileSystemToolset(
    allowed_patterns=(),
    denied_patterns=(),
    max_read_lines=800,
    max_read_chars=16_000,
    max_list_results=300,
    max_search_results=200,
    max_find_results=300,
    content_hashes=False,
)


async def read_file(ctx: RunContext[Hands], path: str, offset: int = 0, limit: int = 400) -> str:
    """Read a text file with line numbers.

    Args:
        ctx: The attempt.
        path: File, relative to the root.
        offset: Lines to leave out at the start.
        limit: Lines to read, at most.
    """
    files = ctx.deps.files
    result = await _HARNESS.read_file(
        _inside(files, path), offset=offset, limit=limit, workspace=files
    )
    if isinstance(result, str):
        return result
    return f"{path} is no text file."


async def edit_file(ctx: RunContext[Hands], path: str, old_text: str, new_text: str) -> str:
    """Replace one piece of a file by another.

    Args:
        ctx: The attempt.
        path: File, relative to the root.
        old_text: Exact text, without line numbers; it must occur exactly once.
        new_text: What takes its place.
    """
    files = ctx.deps.files
    return await _HARNESS.edit_file(_inside(files, path), old_text, new_text, workspace=files)


async def write_file(ctx: RunContext[Hands], path: str, content: str) -> str:
    """Create a file, or replace its whole content.

    Args:
        ctx: The attempt.
        path: File, relative to the root; missing directories are made.
        content: The whole new content.
    """
    files = ctx.deps.files
    inside = _inside(files, path)
    await files.write_bytes(files.path(inside), content.encode("utf-8", "replace"))
    return f"Wrote {inside}."


async def list_files(ctx: RunContext[Hands], path: str = ".", glob: str = "") -> str:
    """List a directory, or all files below it that match a glob.

    Args:
        ctx: The attempt.
        path: Directory, relative to the root.
        glob: For example `**/*.py`; empty lists the directory itself.
    """
    files = ctx.deps.files
    start = _inside(files, path)
    if glob:
        return await _HARNESS.list_files(start, glob=glob, workspace=files)
    return await _HARNESS.list_directory(start, workspace=files)


async def grep(
    ctx: RunContext[Hands],
    pattern: str,
    path: str = ".",
    glob: str = "",
    *,
    ignore_case: bool = False,
) -> str:
    """Search file contents; answers `path:line: text`.

    Args:
        ctx: The attempt.
        pattern: Python regular expression, matched line by line.
        path: File or directory, relative to the root.
        glob: Only files whose name matches, for example `*.py`.
        ignore_case: Whether case does not matter.
    """
    return await ctx.deps.files.grep(pattern, path, glob, ignore_case=ignore_case)


async def check(ctx: RunContext[Hands]) -> str:
    """Run the step's own command and see how it ends."""
    hands = ctx.deps
    if hands.permit.check is None:
        raise ToolFailed("This step has no command to run.")
    return _output(await hands.permit.check(), "result of the command", hands.token)


async def shell(ctx: RunContext[Hands], command: str, seconds: int = 60) -> str:
    """Run a shell command in the root; it ends with everything that it started.

    Args:
        ctx: The attempt.
        command: For `bash -c`.
        seconds: Time limit, at most 300.
    """
    hands = ctx.deps
    if not hands.permit.shell:
        raise ToolFailed("A shell is not granted here. Use the file tools and `check`.")
    result = await run_command(
        Command(
            argv=("bash", "-c", command),
            cwd=hands.permit.root,
            env=hands.permit.environment,
            timeout=float(min(max(seconds, 1), _MOST_SHELL_SECONDS)),
            log=None,
        )
    )
    how = "ended by its time limit" if result.timed_out else f"exit code {result.exit_code}"
    output = _output(result.head + result.tail, "output of the command", hands.token)
    return f"{how}\n{output}"


async def delegate(
    ctx: RunContext[Hands],
    tasks: Annotated[list[DelegateTask], Field(min_length=1, max_length=MOST_ITEMS)],
) -> str:
    """Hand work to the runner: declared steps and tasks for agents, all in one call.

    Args:
        ctx: The attempt.
        tasks: Done in this order where they touch the same files; each gets a short report.
    """
    hands = ctx.deps
    if hands.delegate is None:
        raise ToolFailed("Nothing can be delegated in this run.")
    items = [_item(number, task) for number, task in enumerate(tasks, start=1)]
    reports = await hands.delegate(items, hands.step)
    return "\n\n".join(delegate_report(report, token=hands.token) for report in reports)


_TOOLS: Mapping[str, Tool[Hands]] = {
    "read_file": Tool(read_file),
    "edit_file": Tool(edit_file, sequential=True),
    "write_file": Tool(write_file, sequential=True),
    "list": Tool(list_files, name="list"),
    "grep": Tool(grep),
    "check": Tool(check, sequential=True),
    "shell": Tool(shell, sequential=True),
    "delegate": Tool(delegate, sequential=True),
}


@dataclass
class _Guarded(WrapperToolset[Hands]):
    """Refuses what is not permitted, answers failures instead of raising them, tells listeners."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Hands], tool: ToolsetTool[Hands]
    ) -> Any:
        hands = ctx.deps
        summary = _summary(tool_args)
        try:
            refusal = hands.refusal(name, tool_args, ctx.run_step)
            if refusal:
                raise ToolFailed(refusal)
            result: str = await super().call_tool(name, tool_args, ctx, tool)
        except (ModelRetry, ToolFailed, OSError) as error:
            hands.emit(ToolCalled(hands.step, name, summary, failed=True))
            raise ToolFailed(_reason(error)) from error
        hands.emit(ToolCalled(hands.step, name, summary))
        return head_tail(result, _RESULT_BYTES, 0.75)


def toolset(names: Sequence[str]) -> WrapperToolset[Hands]:
    """Return the named tools, in the one order that all agents have them in."""
    tools = [tool for name, tool in _TOOLS.items() if name in names]
    return _Guarded(FunctionToolset[Hands](tools, docstring_format="google"))


def _inside(files: AgentFiles, path: str) -> str:
    """Say where a path really leads, refused with a message that names no path of the machine."""
    return files.relative(files.path(path))


def _item(number: int, task: DelegateTask) -> DelegateItem:
    if bool(task.step) == bool(task.agent) or bool(task.agent) != bool(task.task):
        raise ToolFailed(f"Item {number}: give either `step`, or `agent` and `task`.")
    return DelegateItem(step=task.step, agent=task.agent, task=task.task)


def _output(text: str, label: str, token: str) -> str:
    return fence(head_tail(clean(text), _OUTPUT_BYTES), label, token=token)


def _summary(arguments: Mapping[str, Any]) -> str:
    """Show people where a call goes, not what it writes there."""
    return one_line(" ".join(str(arguments[name]) for name in _SHOWN if arguments.get(name)), 100)


def _reason(error: Exception) -> str:
    if isinstance(error, ModelRetry | ToolFailed):
        return one_line(error.message, 600)
    text = error.strerror if isinstance(error, OSError) else None
    return one_line(text or str(error), 600)
