"""Turns a document into a `Workflow`: read by the language's shapes, then checked for sense."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, cast

from runner.errors import UsageError, WorkflowErrors
from runner.loader import scalars
from runner.loader.document import Mapping, Scalar, Sequence, decode, read_document
from runner.loader.graph import Graph, arrange
from runner.loader.language import (
    WORKFLOW,
    BudgetKeys,
    DefaultKeys,
    InputKeys,
    StepKeys,
    WorkflowKeys,
)
from runner.loader.problems import Spot, Unreadable
from runner.loader.settings import defaults_of
from runner.loader.sight import Earlier, Sight
from runner.loader.steps import (
    Draft,
    Mention,
    Surroundings,
    build_step,
    check_fix,
    check_template,
    kind_of,
)
from runner.plan import CHEAP, MAIN, Budget, Commit, Input, Step, Uses, Workflow
from runner.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.loader.problems import Problems
    from runner.loader.records import Fields
    from runner.plan import ValueType

DEFAULT_USD = Decimal("1.00")
DEFAULT_SECONDS = 1800.0


class Built(NamedTuple):
    """A workflow with what is still to be checked outside its file."""

    workflow: Workflow
    mentions: tuple[Mention, ...]
    overrides: tuple[Mention, ...]
    problems: Problems


class Origin(NamedTuple):
    """Where a workflow's text comes from."""

    shown: str
    name: str
    """The workflow's name unless the file gives one."""
    file: Path | None
    after_commit: bool
    """It runs as a part of another, after a commit."""
    check: Callable[[Built], None]
    """Tells the problems what is wrong with the agents that are named."""
    use: Callable[[str, bool], Workflow]
    """Returns another workflow by what stands in `uses`, or raises `UsageError`."""


def build(data: str | bytes, origin: Origin) -> Built:
    """Return the workflow of a file's bytes.

    Raises:
        WorkflowErrors: With every mistake found.
    """
    text, problems = decode(data, origin.shown)
    root = read_document(text, problems)
    if root is None:
        message = "the file is empty"
        problems.add(
            message, Spot(1, 1), hint="A workflow begins with `steps:`; `runner init` writes one."
        )
        problems.raise_if_any()
    assert root is not None
    try:
        fields = WORKFLOW.read(root, problems)
    except Unreadable:
        problems.raise_if_any()
        raise
    raw = data if isinstance(data, bytes) else data.encode()
    built = _Builder(fields, problems, origin, hashlib.sha256(raw).hexdigest()).build()
    origin.check(built)
    problems.raise_if_any()
    return built


@dataclass(slots=True)
class _Builder:
    fields: Fields
    problems: Problems
    origin: Origin
    sha256: str

    def build(self) -> Built:
        fields = self.fields
        models = fields.get_or(WorkflowKeys.MODELS, {})
        inputs = self._inputs()
        secrets = fields.get_or(WorkflowKeys.SECRETS, ())
        defaults = defaults_of(fields.get(WorkflowKeys.DEFAULTS))
        types: dict[str, ValueType] = {name: one.type for name, one in inputs.items()}
        around = Surroundings(
            problems=self.problems,
            defaults=defaults,
            inputs=types,
            secrets=secrets,
            roles=(MAIN, CHEAP, *models),
            mentions=[],
            unread=self._unread(),
            use=self._use,
        )
        self._check_defaults(around)
        steps = self._steps(around)
        budget, given = self._budget()
        workflow = Workflow(
            name=fields.get_or(WorkflowKeys.NAME, self.origin.name),
            file=self.origin.file,
            steps=steps,
            models=models,
            budget=budget,
            inputs=inputs,
            secrets=secrets,
            protect=defaults.protect,
            overrides=fields.get_or(WorkflowKeys.OVERRIDES, ()),
            sha256=self.sha256,
            budget_given=given,
            default_fix=defaults.fix,
            keep_warm=fields.get_or(WorkflowKeys.KEEP_WARM, "auto"),
            sandbox=fields.get(WorkflowKeys.SANDBOX),
        )
        return Built(workflow, tuple(around.mentions), self._overrides(), self.problems)

    def _unread(self) -> tuple[str, ...]:
        inputs = self.fields.get_or(WorkflowKeys.INPUTS, {})
        wrong = [f"inputs.{name}" for name, one in inputs.items() if one.spoilt(InputKeys.TYPE)]
        return (*wrong, *self.fields.unread(WorkflowKeys.INPUTS, "inputs"))

    def _overrides(self) -> tuple[Mention, ...]:
        names = self.fields.get(WorkflowKeys.OVERRIDES)
        if not names:
            return ()
        nodes = cast("Sequence", self.fields.value(WorkflowKeys.OVERRIDES)).items
        return tuple(Mention(name, node) for name, node in zip(names, nodes, strict=True))

    def _budget(self) -> tuple[Budget, bool]:
        found = self.fields.get(WorkflowKeys.BUDGET)
        if found is None:
            return Budget(DEFAULT_USD, None, DEFAULT_SECONDS), False
        usd, seconds = found.get(BudgetKeys.USD), found.get(BudgetKeys.TIME)
        budget = Budget(
            usd=DEFAULT_USD if usd is None else usd,
            tokens=found.get(BudgetKeys.TOKENS),
            seconds=DEFAULT_SECONDS if seconds is None else seconds,
        )
        return budget, usd is not None and seconds is not None

    def _inputs(self) -> dict[str, Input]:
        found = self.fields.get_or(WorkflowKeys.INPUTS, {})
        return {name: self._input(name, fields) for name, fields in found.items()}

    def _input(self, name: str, fields: Fields) -> Input:
        type_ = fields.get_or(InputKeys.TYPE, "string")
        text = fields.get(InputKeys.DEFAULT)
        default = None if text is None else scalars.typed(text, type_)
        if text is not None and default is None:
            message = f"{text[:60]!r} is no {type_}"
            hint = "The default has the type of the input."
            self.problems.add(message, fields.value(InputKeys.DEFAULT), hint=hint)
        return Input(
            name=name,
            type=type_,
            default=default,
            required=not fields.has(InputKeys.DEFAULT),
            description=fields.get_or(InputKeys.DESCRIPTION, ""),
            untrusted=fields.get_or(InputKeys.UNTRUSTED, default=False),
        )

    def _check_defaults(self, around: Surroundings) -> None:
        fields = self.fields.get(WorkflowKeys.DEFAULTS)
        if fields is None:
            return
        fix = fields.get(DefaultKeys.FIX)
        if fix is not None:
            check_fix(fix, fields.value(DefaultKeys.FIX), around)
        sight = Sight(around.inputs, {})
        for node in around.defaults.env.nodes.values():
            check_template(node, sight, self.problems)
        if fields.get(DefaultKeys.DIR) is not None:
            check_template(fields.value(DefaultKeys.DIR), sight, self.problems)

    # Steps.

    def _steps(self, around: Surroundings) -> tuple[Step, ...]:
        drafts = self.fields.get_or(WorkflowKeys.STEPS, ())
        names = self._names(drafts)
        numbers = {name: number for number, name in reversed(list(enumerate(names)))}
        needs = [self._needs(number, drafts, names, numbers) for number in range(len(drafts))]
        graph = arrange(needs)
        if not isinstance(graph, Graph):
            self._tell_cycle(graph, drafts, names)
            return ()
        built: list[Step | None] = [None] * len(drafts)
        commits = 0
        for number in graph.order:
            after = self.origin.after_commit or bool(graph.before[number] & commits)
            earlier = Earlier(built, numbers, graph, number)
            wanted = tuple(names[other] for other in graph.needs[number])
            step = build_step(Draft(names[number], drafts[number], wanted, earlier, after), around)
            built[number] = step
            if kind_of(drafts[number]) == "commit" or (step is not None and commits_within(step)):
                commits |= 1 << number
        return tuple(step for step in built if step is not None)

    def _names(self, drafts: tuple[Fields, ...]) -> list[str]:
        """Return the steps' ids; one without a readable id gets a number that nobody can write."""
        names: list[str] = []
        first: dict[str, Scalar] = {}
        for number, fields in enumerate(drafts):
            name = fields.get(StepKeys.ID)
            if name is None:
                names.append(str(number + 1))
                continue
            node = cast("Scalar", fields.value(StepKeys.ID))
            before = first.setdefault(name.lower(), node)
            if before is not node:
                message = f"the id `{name}` is taken by the step on line {before.line}"
                hint = (
                    "Ids differ by more than upper and lower case." if before.text != name else ""
                )
                self.problems.add(message, node, hint=hint)
            names.append(name)
        return names

    def _needs(
        self, number: int, drafts: tuple[Fields, ...], names: list[str], numbers: dict[str, int]
    ) -> tuple[int, ...]:
        fields = drafts[number]
        wanted = fields.get(StepKeys.NEEDS)
        if wanted is None:
            return (number - 1,) if number and not fields.has(StepKeys.NEEDS) else ()
        found: list[int] = []
        nodes = cast("Sequence", fields.value(StepKeys.NEEDS)).items
        for name, node in zip(wanted, nodes, strict=True):
            if name not in numbers:
                # A step without a readable id goes by a number.
                others = [one for one in numbers if one != names[number] and not one.isdigit()]
                hint = did_you_mean(name, others, label="Steps") or "There is no other step."
                self.problems.add(f"there is no step `{name}`", node, hint=hint)
            elif numbers[name] == number:
                self.problems.add(f"step `{name}` cannot need itself", node, hint="Delete it here.")
            else:
                found.append(numbers[name])
        return tuple(found)

    def _tell_cycle(
        self, cycle: tuple[int, ...], drafts: tuple[Fields, ...], names: list[str]
    ) -> None:
        path = " -> ".join(names[number] for number in cycle)
        fields = drafts[cycle[0]]
        at = fields.key(StepKeys.NEEDS) if fields.has(StepKeys.NEEDS) else fields.node
        hint = (
            "Each needs the next; take one `needs` out (a step without one needs the step before)."
        )
        self.problems.add(f"these steps wait for one another: {path}", at, hint=hint)

    # uses.

    def _use(self, fields: Fields, after_commit: bool) -> Uses | None:  # noqa: FBT001  one call
        target = fields.get(StepKeys.USES)
        assert target is not None
        node = fields.value(StepKeys.USES)
        try:
            workflow = self.origin.use(target, after_commit)
        except WorkflowErrors as errors:
            self.problems.found.extend(errors.errors)
            return None
        except UsageError as error:
            self.problems.add(error.message, node, hint=error.hint)
            return None
        self._check_secrets(fields, workflow)
        return Uses(workflow, self._given(fields, workflow))

    def _check_secrets(self, fields: Fields, workflow: Workflow) -> None:
        missing = [
            name for name in workflow.secrets if name not in fields.get_or(StepKeys.SECRETS, ())
        ]
        if missing:
            listed = ", ".join(missing)
            message = f"that workflow asks for secrets that this step does not pass on: {listed}"
            hint = f"Add `secrets: [{listed}]` to the step."
            self.problems.add(message, fields.value(StepKeys.USES), hint=hint)

    def _given(self, fields: Fields, workflow: Workflow) -> dict[str, str | float | bool]:
        given = fields.get_or(StepKeys.WITH, {})
        for name, one in workflow.inputs.items():
            if one.required and name not in given:
                message = f"that workflow needs the input `{name}`"
                hint = f"Add `with: {{ {name}: ... }}` to the step."
                self.problems.add(message, fields.value(StepKeys.USES), hint=hint)
        for name, value in given.items():
            key, node = cast("Mapping", fields.value(StepKeys.WITH)).entries[name]
            one = workflow.inputs.get(name)
            if one is None:
                hint = did_you_mean(name, workflow.inputs, label="Its inputs")
                self.problems.add(f"that workflow has no input `{name}`", key, hint=hint)
            elif not _fits(value, one.type):
                hint = "Put it in quotes." if one.type == "string" else ""
                self.problems.add(f"the input `{name}` is a {one.type}", node, hint=hint)
        return given


def _fits(value: str | float | bool, type_: ValueType) -> bool:  # noqa: FBT001  any of the types
    """Return whether a value has a type; what holds a template is seen when it is known."""
    match value:
        case bool():
            return type_ == "boolean"
        case str():
            return type_ == "string" or "${{" in value
        case _:
            return type_ == "number"


def commits_within(step: Step) -> bool:
    """Return whether a step commits, itself or by a workflow that it uses."""
    if isinstance(step.kind, Uses):
        return any(commits_within(one) for one in step.kind.workflow.steps)
    return isinstance(step.kind, Commit)
