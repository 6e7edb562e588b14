"""The agents' tools: their definitions on the wire, and what each call may do here and now.

The definitions are ours, short and fixed; the harness does the reading and the exact editing. A
call that cannot be served is answered with the reason, never raised: only malformed arguments count
against the retries of a run.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field
from pydantic_ai import RunContext, Tool
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.toolsets import FunctionToolset, ToolsetTool, WrapperToolset
from pydantic_ai_harness.filesystem import FileSystemToolset

from runner.agentfiles import AgentFiles
from runner.brief import delegate_report
from runner.events import ToolCalled
from runner.recorded import READING
from runner.text import clean, fence, head_tail, one_line
from runner.tools import DelegateItem, Permit
from runner.workspace.commands import Command, run_command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pydantic_ai.messages import ToolCallPart

    from runner.brief import DelegateReport
    from runner.events import Sink
    from runner.plan import ValueType
    from runner.recalled import Earlier

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
_CHANGING = frozenset({"edit_file", "write_file", "shell", "check", "delegate"})
_WRITING = frozenset({"edit_file", "write_file"})
_EVEN_FAILED = frozenset({"shell", "check", "delegate"})
"""Tools that may have changed files although they failed."""
INTERRUPTED = (
    "interrupted: the runner was ended while this call was under way, or before it began; its"
    " effects outside of the tree are unknown, and the tree was restored to what it was before"
    " the call. Call it again if it is still needed."
)
"""What the model is told of a call of an earlier life that nobody saw the end of."""
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
    attempt: int = 0
    """Number of the step's attempt, for what listeners are told."""
    delegate: Delegate | None = None
    mask: Callable[[str], str] = str
    """Hides secrets in all that tools answer, so that the journal has what was sent."""
    earlier: Earlier | None = None
    """Calls of an earlier life of the run; `None` in an attempt that begins here."""
    files: AgentFiles = field(init=False)
    _step: int = -1
    _calls: int = 0
    _floods: int = 0
    _last: str = ""
    _repeats: int = 0
    _whole: int = 0

    def __post_init__(self) -> None:
        self.files = AgentFiles(self.permit)

    def bounded(self, text: str, label: str) -> str:
        """Return what a command said, cut and fenced as untrusted; its whole size is kept."""
        text = self.mask(clean(text))
        self._whole = len(text.encode("utf-8", "replace"))
        return fence(head_tail(text, _OUTPUT_BYTES), label, token=self.token)

    def whole(self, answer: str) -> int:
        """Return how many bytes the answer to a call had before anything was cut from it."""
        whole, self._whole = self._whole, 0
        return max(whole, len(answer.encode("utf-8", "replace")))

    async def settle(self) -> None:
        """Let the tree be recorded as it is now, before a call counts as done."""
        if self.permit.settled is not None:
            await self.permit.settled()

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

    def forget_call(self) -> None:
        """Let a call that was cut off be made again: it came to nothing."""
        self._last, self._repeats = "", 0


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
    return hands.bounded(await hands.permit.check(), "result of the command")


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
    traced = hands.permit.traced
    asked = Command(
        argv=("bash", "-c", command),
        cwd=hands.permit.root,
        env={
            **hands.permit.environment,
            **(traced(ctx.tool_call_id or "") if traced else {}),
        },
        timeout=float(min(max(seconds, 1), _MOST_SHELL_SECONDS)),
        log=None,
    )
    confine = hands.permit.confine
    result = await run_command(confine(asked) if confine else asked)
    how = "ended by its time limit" if result.timed_out else f"exit code {result.exit_code}"
    output = hands.bounded(result.head + result.tail, "output of the command")
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
        earlier = await _of_earlier_life(hands, name, tool_args, ctx)
        if earlier is not None:
            return earlier
        called = ToolCalled(
            hands.step,
            name,
            _summary(tool_args),
            attempt=hands.attempt,
            call=ctx.tool_call_id or "",
        )
        began = time.monotonic()
        try:
            refusal = hands.refusal(name, tool_args, ctx.run_step)
            if refusal:
                raise ToolFailed(refusal)
            if name in _WRITING and hands.permit.keeps is not None:
                await hands.permit.keeps(str(tool_args["path"]))
            result: str = await super().call_tool(name, tool_args, ctx, tool)
        except (ModelRetry, ToolFailed, OSError) as error:
            reason, seconds = hands.mask(_reason(error)), time.monotonic() - began
            if name in _EVEN_FAILED:
                await hands.settle()
            shown = one_line(reason, 200)
            hands.emit(replace(called, failed=True, seconds=seconds, reason=shown, result=reason))
            raise ToolFailed(reason) from error
        result = hands.mask(result)
        seconds, whole = time.monotonic() - began, hands.whole(result)
        answer = head_tail(result, _RESULT_BYTES, 0.75)
        cut = len(answer.encode("utf-8", "replace")) < whole
        if name in _CHANGING:
            await hands.settle()
        told = replace(called, seconds=seconds, output_bytes=whole, truncated=cut, result=answer)
        hands.emit(told)
        return answer


async def _of_earlier_life(
    hands: Hands, name: str, arguments: Mapping[str, Any], ctx: RunContext[Hands]
) -> str | None:
    """Answer a call that an earlier life of the run began; `None`: it is to be made now.

    Raises:
        ToolFailed: It failed then, or nobody knows what became of it.
    """
    earlier = hands.earlier
    if earlier is None or not earlier.open:
        return None
    call = ctx.tool_call_id or ""
    settled = earlier.settled(call, name)
    if settled is None and name in READING:
        return None
    # Counted as it was then; what came of that is recorded.
    hands.refusal(name, arguments, ctx.run_step)
    if settled is None:
        hands.forget_call()
        hands.emit(
            ToolCalled(
                hands.step,
                name,
                _summary(arguments),
                failed=True,
                attempt=hands.attempt,
                call=call,
                reason="interrupted, effects unknown, tree restored",
                result=INTERRUPTED,
            )
        )
        raise ToolFailed(INTERRUPTED)
    if settled.result == INTERRUPTED:
        hands.forget_call()
    if settled.failed:
        raise ToolFailed(settled.result)
    return settled.result


def recount(hands: Hands, calls: Mapping[str, ToolCallPart]) -> None:
    """Count the calls that earlier lives of an attempt made, as they were counted then.

    Args:
        hands: Of the attempt.
        calls: The model's calls by id, in order.
    """
    order = {call: number for number, call in enumerate(calls)}
    for number, settled in enumerate(hands.earlier.rounds if hands.earlier else ()):
        for event in sorted(settled, key=lambda event: order.get(event.call, 0)):
            part, known = calls.get(event.call), _TOOLS.get(event.tool)
            if part is None or known is None:
                continue
            check = known.function_schema.validator
            arguments = check.validate_python(part.args_as_dict())
            # Any number that no step of this life has.
            hands.refusal(event.tool, arguments, -2 - number)
            if event.result == INTERRUPTED:
                hands.forget_call()


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


def _summary(arguments: Mapping[str, Any]) -> str:
    """Show people where a call goes, not what it writes there."""
    return one_line(" ".join(str(arguments[name]) for name in _SHOWN if arguments.get(name)), 100)


def _reason(error: Exception) -> str:
    if isinstance(error, ModelRetry | ToolFailed):
        return one_line(error.message, 600)
    text = error.strerror if isinstance(error, OSError) else None
    return one_line(text or str(error), 600)
