"""Turns what events hold into attributes. Pure; equal for live events and for journaled ones."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from runner.outcome import Rung, Status, Usage, Verdict, add_cost
from runner.telemetry import names
from runner.text import head_tail, one_line

if TYPE_CHECKING:
    from runner.events import (
        CommandFinished,
        CommandStarted,
        Continuity,
        Decided,
        GitFact,
        ModelResponded,
        ModelRetried,
        RunFinished,
        RunStarted,
        ToolCalled,
    )
    from runner.outcome import Attempt, StepOutcome
    from runner.telemetry.nouns import Value

LONGEST_ARG = 1_000
"""Bytes of one argument of a command."""
_MOST_ARGS = 20
_MOST_PATHS = 20
LONGEST_TEXT = 300

RESULTS = {
    Status.SUCCEEDED: "success",
    Status.FAILED: "failure",
    Status.SKIPPED: "skip",
    Status.BLOCKED: "skip",
    Status.CANCELLED: "cancellation",
}
"""https://opentelemetry.io/docs/specs/semconv/registry/attributes/cicd/"""

BY_EXIT_CODE = {
    3: names.BUDGET_EXCEEDED,
    4: "denied",
    5: "tampering",
    6: "provider_failed",
}
"""What went wrong, by the exit code that it alone would end a run with."""

_BY_STATUS = {"succeeded": "success", "failed": "failure", "cancelled": "cancellation"}
_RUN_RESULTS = {4: "error", 6: "error"}
"""Not the work failed then, but what it was done with."""

_PROVIDERS = {
    "openai-responses": "openai",
    "openai-chat": "openai",
    "google": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "grok": "x_ai",
    "moonshotai": "moonshot_ai",
    "azure": "azure.ai.openai",
    "azure-responses": "azure.ai.openai",
}
"""Where the conventions call a provider by another name than its ids begin with.
https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/ (gen_ai.provider.name)"""

_ASSIGNMENT = re.compile(r"\w+=\S*")
_PLAIN = re.compile(r"[\w.+@-]{1,32}", re.ASCII)
_SHELLS = frozenset({"bash", "sh", "dash", "zsh", "ksh"})

_SAYING = (
    ("the agent gave up: ", "the agent gave up"),
    ("tampered with its judge: ", "tampered with its judge"),
    ("request ", ""),
)
"""Reasons that quote an agent behind a colon, and what is left of them without it."""


class Tally:
    """What the requests below a span used and cost."""

    def __init__(self) -> None:
        self.usage = Usage()
        self.cost: Decimal | None = Decimal(0)

    def add(self, row: ModelResponded) -> None:
        """Count a response."""
        self.usage += row.usage
        self.cost = add_cost(self.cost, row.cost_usd)

    def attributes(self) -> dict[str, Value]:
        """Return the roll-up; none where nothing was asked."""
        if not self.usage.requests:
            return {}
        return {
            names.USAGE_REQUESTS: self.usage.requests,
            names.USAGE_INPUT: self.usage.input_tokens,
            names.USAGE_OUTPUT: self.usage.output_tokens,
            names.USAGE_CACHE_READ: self.usage.cache_read_tokens,
            names.USAGE_CACHE_CREATION: self.usage.cache_write_tokens,
            **cost_attribute(self.cost),
        }


class Private:
    """Keeps what an agent said out of the reasons that quote it, unless content is asked for."""

    def __init__(self, *, content: bool) -> None:
        self._content = content
        self._known: dict[str, str] = {}

    def reason(self, attempt: Attempt) -> str:
        """Return why an attempt got its verdict, and remember how others will quote that."""
        whole = attempt.reason
        if self._content or attempt.rung is Rung.COMMAND:
            return whole
        for start, rest in _SAYING:
            if whole.startswith(start):
                self._known[whole] = rest or whole.partition(":")[0]
        return self.text(whole)

    def text(self, text: str) -> str:
        """Return a text of the runner's without what it quotes."""
        for whole, rest in self._known.items():
            text = text.replace(whole, rest)
        return one_line(text, LONGEST_TEXT)


def run_attributes(started: RunStarted, life: int) -> dict[str, Value]:
    """Describe a run at its start."""
    found: dict[str, Value] = {
        names.OPERATION: names.INVOKE_WORKFLOW,
        names.WORKFLOW_NAME: started.workflow,
        names.CONVERSATION: started.run_id,
        names.PIPELINE_NAME: started.workflow,
        names.PIPELINE_RUN: started.run_id,
        names.RUN_ID: started.run_id,
        names.RUN_LIFE: life,
        names.RUN_SCRIPTED: started.scripted,
        names.RUN_SANDBOX: started.sandbox,
    }
    if started.budget_usd is not None:
        found[names.BUDGET_USD] = float(started.budget_usd)
    return found


def end_attributes(ended: RunFinished) -> dict[str, Value]:
    """Describe how a run ended by itself."""
    found: dict[str, Value] = {
        names.RUN_OUTCOME: ended.status,
        names.RUN_EXIT: ended.exit_code,
        names.PIPELINE_RESULT: _RUN_RESULTS.get(ended.exit_code, _BY_STATUS[ended.status]),
        names.UNCOMMITTED: len(ended.uncommitted),
    }
    if ended.remote_ref:
        found[names.REMOTE_REF] = ended.remote_ref
    estimates = ((names.INLINE_USD, ended.inline_usd), (names.SWITCH_USD, ended.switch_usd))
    return found | {name: float(usd) for name, usd in estimates if usd is not None}


def run_error(ended: RunFinished) -> str:
    """Name the error of a failed run; empty for all others."""
    return BY_EXIT_CODE.get(ended.exit_code, "step_failed") if ended.status == "failed" else ""


def cost_attribute(cost: Decimal | None) -> dict[str, Value]:
    """Return what something cost; nothing where nobody knows."""
    return {} if cost is None else {names.COST_USD: float(cost)}


def provider_and_model(model_id: str) -> tuple[str, str]:
    """Split a model's id as the conventions have it; a script is no provider's."""
    provider, colon, name = model_id.partition(":")
    if not colon:
        return "", model_id
    if provider == "script":
        return "script", posixpath.basename(name) or name
    return _PROVIDERS.get(provider, provider), name


def chat_attributes(row: ModelResponded) -> dict[str, Value]:
    """Describe one request; the only span with `gen_ai.usage.*`, which readers add up."""
    usage = row.usage
    return {
        names.OPERATION: names.CHAT,
        **model_attributes(row.asked),
        **({names.RESPONSE_MODEL: _served(row)} if row.served else {}),
        names.INPUT_TOKENS: usage.input_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
        names.CACHE_READ: usage.cache_read_tokens,
        names.CACHE_CREATION: usage.cache_write_tokens,
        names.ROLE: row.role,
        names.RUN_SCRIPTED: row.scripted,
        **({names.PRICES: row.prices} if row.prices else {}),
        **cost_attribute(row.cost_usd),
        **(continuity_attributes(row.continuity) if row.continuity else {}),
    }


def _served(row: ModelResponded) -> str:
    """Return the model that answered; a script's is a path of this machine."""
    provider, model = provider_and_model(row.asked)
    return model if provider == "script" else row.served


def model_attributes(model_id: str) -> dict[str, Value]:
    """Say which model is asked, and whose it is."""
    provider, model = provider_and_model(model_id)
    return {names.PROVIDER: provider or "unknown", names.REQUEST_MODEL: model}


def continuity_attributes(continuity: Continuity) -> dict[str, Value]:
    """Say how a request follows the one before, as a prompt cache sees it."""
    found: dict[str, Value] = {
        names.PREFIX_HOW: continuity.how,
        names.PREFIX_BROKEN: continuity.broken,
        names.PREFIX_BLOCKS: continuity.blocks,
        names.PREFIX_BYTES: continuity.size,
        names.PREFIX_DIGEST: continuity.digest,
    }
    if continuity.expected is not None:
        found[names.CACHE_EXPECTED] = continuity.expected
    if continuity.why:
        found[names.CACHE_WHY] = continuity.why
    return found


def lost(row: ModelResponded) -> str:
    """Name the error of a request that no usable answer came to; empty for all others."""
    if row.usage.requests == 0:
        return "prefix_broken"
    return "" if row.served or row.usage.input_tokens else "no_response"


def retry_error(retried: ModelRetried) -> str:
    """Name why a request was tried again: the provider's status, or the kind of broken wire."""
    return retried.error.removeprefix("HTTP ").replace(" ", "_")


def tool_attributes(call: ToolCalled, *, content: bool) -> dict[str, Value]:
    """Describe one call of a tool; its arguments, and a reason that quotes them, are content."""
    found: dict[str, Value] = {
        names.OPERATION: names.EXECUTE_TOOL,
        names.TOOL_NAME: call.tool,
        names.TOOL_TYPE: "function",
        names.TOOL_FAILED: call.failed,
        names.TOOL_BYTES: call.output_bytes,
        names.TOOL_TRUNCATED: call.truncated,
        **({names.TOOL_CALL: call.call} if call.call else {}),
    }
    if content:
        found |= {names.TOOL_SUMMARY: call.summary, names.TOOL_REASON: call.reason}
    return {name: value for name, value in found.items() if value != ""}


def command_attributes(command: CommandStarted) -> dict[str, Value]:
    """Describe a command of the author's; masked already, and cut."""
    argv = [head_tail(arg, LONGEST_ARG) for arg in command.argv or (command.command,)]
    found: dict[str, Value] = {
        names.STEP_ID: command.step,
        names.EXECUTABLE: executable(command),
        names.COMMAND_ARGS: _some(argv, _MOST_ARGS),
        names.COMMAND_PURPOSE: command.purpose,
    }
    return found | ({names.COMMAND_NUMBER: command.number} if command.number else {})


def command_error(ended: CommandFinished) -> str:
    """Name the error of a command that did not exit with 0; empty for one that did.

    https://opentelemetry.io/docs/specs/semconv/cli/cli-spans/
    """
    if ended.timed_out:
        return "timeout"
    if ended.exit_code is None:
        return "ended"
    return f"exit_{ended.exit_code}" if ended.exit_code else ""


def output_attributes(ended: CommandFinished) -> dict[str, Value]:
    """Describe how a command ended, and how much it said."""
    found: dict[str, Value] = {
        names.OUTPUT_BYTES: ended.output_bytes,
        names.COMMAND_TIMED_OUT: ended.timed_out,
    }
    if ended.exit_code is not None:
        found[names.EXIT_CODE] = ended.exit_code
    if ended.log:
        found[names.COMMAND_LOG] = posixpath.basename(ended.log)
    return found


def executable(command: CommandStarted) -> str:
    """Name the program that a command line runs: of `A=1 tools/pytest -q`, `pytest`.

    A shell around it would be the same for every command. Of few different values, and short.
    """
    argv = command.argv
    program = posixpath.basename(argv[0]) if argv else "bash"
    words = command.command.split() if program in _SHELLS else []
    word = next((word for word in words if not _ASSIGNMENT.fullmatch(word)), "")
    for name in (posixpath.basename(word.strip("\"'();")), program):
        if _PLAIN.fullmatch(name):
            return name
    return "command"


def attempt_attributes(attempt: Attempt) -> dict[str, Value]:
    """Describe how an attempt ended."""
    found: dict[str, Value] = {
        names.ATTEMPT_VERDICT: str(attempt.verdict),
        names.ATTEMPT_FILES: _some(attempt.files, _MOST_PATHS),
    }
    if attempt.role:
        found[names.ATTEMPT_ROLE] = attempt.role
    if attempt.verdict is Verdict.CANCELLED:
        found[names.RUN_OUTCOME] = "cancelled"
    return {name: value for name, value in found.items() if value != ()}


def attempt_error(attempt: Attempt, *, judged: bool, timed_out: bool) -> str:
    """Name the error of an attempt that did not pass; empty for one that did or was cancelled."""
    match attempt.verdict:
        case Verdict.PASSED | Verdict.FLAKY | Verdict.CANCELLED:
            return ""
        case Verdict.INFRA:
            return "provider_failed"
        case Verdict.DENIED:
            return "denied"
        case Verdict.SOFT | Verdict.HARD:
            if timed_out:
                return "timeout"
            return names.CHECK_FAILED if judged or attempt.rung is Rung.COMMAND else "gave_up"


def step_attributes(outcome: StepOutcome) -> dict[str, Value]:
    """Describe how a step ended, without its outputs and without what its command said."""
    asked = [attempt for attempt in outcome.attempts if attempt.rung is not Rung.COMMAND]
    rungs = {attempt.rung for attempt in asked}
    found: dict[str, Value] = {
        names.STEP_STATUS: str(outcome.status),
        names.TASK_RESULT: RESULTS[outcome.status],
        names.STEP_RUNG: str(outcome.rung) if outcome.rung else "",
        names.STEP_VERIFIED: outcome.verified,
        names.STEP_ATTEMPTS: len(outcome.attempts),
        names.STEP_ESCALATED: Rung.MAIN in rungs and Rung.SUBAGENT in rungs,
    }
    return {name: value for name, value in found.items() if value != ""}


def step_error(outcome: StepOutcome) -> str:
    """Name the error of a failed step."""
    if outcome.exit_code in BY_EXIT_CODE:
        return BY_EXIT_CODE[outcome.exit_code]
    return names.CHECK_FAILED if outcome.attempts else "failed"


def git_attributes(fact: GitFact) -> dict[str, Value]:
    """Describe what git did, but for the words of a commit's message."""
    told = {name: value for name, value in fact.facts.items() if name in ("sha", "ref", "remote")}
    return {
        names.GIT_ACTION: fact.action,
        **{names.GIT_FACT.format(name): value for name, value in told.items()},
    }


def decision_attributes(decided: Decided, *, content: bool) -> dict[str, Value]:
    """Describe what the policy decided, with its arithmetic.

    The ids of failing tests come from a command's output: they are content, their number is not.
    """
    facts = dict(decided.facts)
    failures = facts.get("failures")
    if isinstance(failures, list | tuple) and not content:
        facts["failures"] = len(cast("list[object]", failures))
    found: dict[str, Value] = {names.DECISION: decided.decision}
    for name, fact in facts.items():
        value = _value(fact)
        if value not in ("", ()):
            found[names.DECISION_FACT.format(name)] = value
    return found


def _value(fact: Any) -> Value:
    """Return a fact as an attribute; a live event's and a journaled one's are equal then."""
    match fact:
        case Enum():
            return str(fact.value)
        case bool() | int() | float() | str():
            return one_line(fact, LONGEST_TEXT) if isinstance(fact, str) else fact
        case None:
            return ""
        case Decimal():
            return str(fact)
        case Mapping():
            return one_line(json.dumps(fact, default=str, sort_keys=True), LONGEST_TEXT)
        case set() | frozenset():
            return _some(sorted(str(one) for one in cast("Iterable[Any]", fact)), _MOST_PATHS)
        case list() | tuple():
            return _some((str(_value(one)) for one in cast("Iterable[Any]", fact)), _MOST_PATHS)
        case _:
            return one_line(str(fact), LONGEST_TEXT)


def _some(items: Iterable[str], most: int) -> tuple[str, ...]:
    """Return the first items, and how many more there are."""
    found = tuple(items)
    if len(found) <= most:
        return found
    return (*found[: most - 1], f"... {len(found) - most + 1} more")
