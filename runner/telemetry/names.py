"""Every name that a trace or a metric of the runner has: attributes, spans, events, links.

Those of OpenTelemetry's conventions change still (GenAI's are all "development"), so that they are
written here only. Where a convention has a name for a thing, that one is used; all else is
`runner.*`, in the words of the workflow file.
"""

from __future__ import annotations

SCOPE = "runner"
"""Name of the instrumentation scope."""

SCHEMA_URL = "https://opentelemetry.io/schemas/1.42.0"
"""Version of the conventions that these names are taken from."""

# -- Spans ----------------------------------------------------------------------------------------
# GenAI: "{operation} {target}"; https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
# Command line: the executable's name; https://opentelemetry.io/docs/specs/semconv/cli/cli-spans/

WORKFLOW_SPAN = "invoke_workflow {}"
STEP_SPAN = "step {}"
QUEUE_SPAN = "queue {}"
ATTEMPT_SPAN = "attempt {} {}"
AGENT_SPAN = "invoke_agent {}"
CHAT_SPAN = "chat {}"
TOOL_SPAN = "execute_tool {}"
CHECK_SPAN = "check {}"

# -- General --------------------------------------------------------------------------------------
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/

ERROR_TYPE = "error.type"
HTTP_STATUS = "http.response.status_code"

# -- Generative AI --------------------------------------------------------------------------------
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
# https://github.com/open-telemetry/semantic-conventions-genai (where they are kept since 2026-05)

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
AGENT_NAME = "gen_ai.agent.name"
WORKFLOW_NAME = "gen_ai.workflow.name"
CONVERSATION = "gen_ai.conversation.id"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL = "gen_ai.tool.call.id"
TOOL_TYPE = "gen_ai.tool.type"
# On model requests only: readers add them up over all spans.
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens"
# Content: only where it is asked for.
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EVENT = "gen_ai.evaluation.result"

CHAT = "chat"
INVOKE_AGENT = "invoke_agent"
INVOKE_WORKFLOW = "invoke_workflow"
EXECUTE_TOOL = "execute_tool"

# -- CI/CD ----------------------------------------------------------------------------------------
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/cicd/

PIPELINE_NAME = "cicd.pipeline.name"
PIPELINE_RUN = "cicd.pipeline.run.id"
PIPELINE_RESULT = "cicd.pipeline.result"
PIPELINE_URL = "cicd.pipeline.run.url.full"
TASK_NAME = "cicd.pipeline.task.name"
TASK_RUN = "cicd.pipeline.task.run.id"
TASK_RESULT = "cicd.pipeline.task.run.result"
WORKER_NAME = "cicd.worker.name"

# -- Processes ------------------------------------------------------------------------------------
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/process/

EXECUTABLE = "process.executable.name"
COMMAND_ARGS = "process.command_args"
EXIT_CODE = "process.exit.code"
PROCESS_ID = "process.pid"

# -- Resource -------------------------------------------------------------------------------------
# https://opentelemetry.io/docs/specs/semconv/resource/
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/vcs/

SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE = "service.instance.id"
HOST_NAME = "host.name"
OS_TYPE = "os.type"
VCS_URL = "vcs.repository.url.full"
VCS_BRANCH = "vcs.ref.head.name"
VCS_REVISION = "vcs.ref.head.revision"
VCS_CHANGE = "vcs.change.id"
# https://github.com/Arize-ai/openinference/tree/main/spec: what Phoenix groups traces by.
OPENINFERENCE_PROJECT = "openinference.project.name"

# -- The runner's own -----------------------------------------------------------------------------

RUN_ID = "runner.run.id"
RUN_LIFE = "runner.run.life"
RUN_EXIT = "runner.run.exit_code"
RUN_OUTCOME = "runner.outcome"
RUN_SCRIPTED = "runner.run.scripted"
"""A model was a script: tokens and cost are not a provider's."""
RUN_SANDBOX = "runner.run.sandbox"
"""What confined commands: `bubblewrap`, `landlock`, `none: WHY` or `off`."""
BUDGET_USD = "runner.cost.budget_usd"
INLINE_USD = "runner.cost.inline_usd"
SWITCH_USD = "runner.cost.switch_usd"
STEPS_TOTAL = "runner.steps.total"
STEPS_FAILED = "runner.steps.failed"
STEPS_ESCALATED = "runner.steps.escalated"
UNCOMMITTED = "runner.uncommitted"
REMOTE_REF = "runner.git.remote_ref"
EXTERNAL = "runner.external"

COST_USD = "runner.cost.usd"
"""Absent where no price is known: unknown is not zero."""
USAGE_REQUESTS = "runner.usage.requests"
USAGE_INPUT = "runner.usage.input_tokens"
USAGE_OUTPUT = "runner.usage.output_tokens"
USAGE_CACHE_READ = "runner.usage.cache_read_tokens"
USAGE_CACHE_CREATION = "runner.usage.cache_creation_tokens"

STEP_ID = "runner.step.id"
STEP_KIND = "runner.step.kind"
STEP_STATUS = "runner.step.status"
STEP_RUNG = "runner.step.rung"
STEP_REASON = "runner.step.reason"
STEP_VERIFIED = "runner.step.verified"
STEP_ATTEMPTS = "runner.step.attempts"
STEP_ESCALATED = "runner.step.escalated"
STEP_HINT = "runner.step.hint"

WAIT_REASON = "runner.wait.reason"

ATTEMPT_NUMBER = "runner.attempt.number"
ATTEMPT_RUNG = "runner.attempt.rung"
ATTEMPT_ROLE = "runner.attempt.role"
ATTEMPT_VERDICT = "runner.attempt.verdict"
ATTEMPT_REASON = "runner.attempt.reason"
ATTEMPT_FILES = "runner.attempt.files"
ATTEMPT_PREVIOUS = "runner.attempt.previous_span_id"

ROLE = "runner.role"
"""Model role; `keepalive` for a request that only keeps main's cache."""
RETRY_COUNT = "runner.retry.count"
CACHE_EXPECTED = "runner.cache.expected_tokens"
CACHE_WHY = "runner.cache.why"
PREFIX_HOW = "runner.prefix.how"
PREFIX_BROKEN = "runner.prefix.broken"
PREFIX_BLOCKS = "runner.prefix.blocks"
PREFIX_BYTES = "runner.prefix.bytes"
PREFIX_DIGEST = "runner.prefix.digest"
PRICES = "runner.cost.prices"

TOOL_SUMMARY = "runner.tool.summary"
TOOL_BYTES = "runner.tool.bytes_out"
TOOL_TRUNCATED = "runner.tool.truncated"
TOOL_FAILED = "runner.tool.failed"
TOOL_REASON = "runner.tool.reason"

COMMAND_NUMBER = "runner.command.number"
COMMAND_PURPOSE = "runner.command.purpose"
COMMAND_LOG = "runner.command.log"
COMMAND_TIMED_OUT = "runner.command.timed_out"
OUTPUT_BYTES = "runner.output.bytes"

CHECK_KIND = "runner.check.kind"

DECISION = "runner.decision.move"
DECISION_REASON = "runner.decision.reason"
DECISION_FACT = "runner.decision.{}"

# -- Links ----------------------------------------------------------------------------------------

LINK_KIND = "runner.link.kind"
LINK_REASON = "runner.link.reason"
RETRY_OF = "retry_of"
ESCALATED_FROM = "escalated_from"
RESUME_OF = "resume_of"

# -- Events ---------------------------------------------------------------------------------------

RETRY_EVENT = "retry"
ESCALATE_EVENT = "escalate"
DECIDED_EVENT = "decided"
NOTICE_EVENT = "notice"
RESTORED_EVENT = "restored"
SNAPSHOT_EVENT = "snapshot"
GIT_EVENT = "git"
RETRY_DELAY = "runner.retry.delay_s"
ESCALATE_FROM = "runner.escalate.from"
ESCALATE_TO = "runner.escalate.to"
NOTICE_TEXT = "runner.notice.text"
RESTORED_PATHS = "runner.restored.paths"
GIT_ACTION = "runner.git.action"
GIT_FACT = "runner.git.{}"

# -- Values of error.type that are ours -----------------------------------------------------------

CHECK_FAILED = "check_failed"
BUDGET_EXCEEDED = "budget_exceeded"
KILLED = "killed"

# -- Metrics --------------------------------------------------------------------------------------
# https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
# https://opentelemetry.io/docs/specs/semconv/cicd/cicd-metrics/
# Tokens are counted under a name of ours: `gen_ai.client.token.usage` knows no classes of the
# prompt cache and is about to be replaced by several counters.

METRIC_OPERATION_SECONDS = "gen_ai.client.operation.duration"
METRIC_RUN_SECONDS = "cicd.pipeline.run.duration"
METRIC_STEP_SECONDS = "runner.step.duration"
METRIC_TOKENS = "runner.tokens"
METRIC_COST = "runner.cost"
METRIC_UNPRICED = "runner.responses.unpriced"
METRIC_STEPS = "runner.steps"
METRIC_ATTEMPTS = "runner.attempts"
METRIC_ESCALATIONS = "runner.escalations"
METRIC_RETRIES = "runner.retries"
METRIC_PREFIX_BREAKS = "runner.prefix.breaks"
TOKEN_CLASS = "runner.token.class"  # noqa: S105  tokens of text, no secret
PIPELINE_STATE = "cicd.pipeline.run.state"
