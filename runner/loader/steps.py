"""Turns one step's fields into a `Step`, checking every name, expression and template in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, assert_never, cast

from runner.expressions import ExpressionError, check, paths, template_paths, unknown_name
from runner.loader.document import Mapping as MappingNode
from runner.loader.document import Node, Scalar, Sequence, place_in
from runner.loader.language import (
    KINDS,
    CommitKeys,
    FixKeys,
    PushKeys,
    StepKeys,
)
from runner.loader.records import Fields
from runner.loader.settings import Defaults, env_of, escalate_of, fix_of, retry_of, shell_of
from runner.loader.sight import FUNCTIONS, Hidden, Sight
from runner.plan import (
    MAIN,
    Commit,
    Condition,
    Location,
    Prompt,
    Push,
    Retry,
    Run,
    Step,
    StepKind,
    Uses,
)
from runner.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from runner.loader.language import Files
    from runner.loader.problems import Placed, Problems
    from runner.loader.vocabulary import Environment
    from runner.plan import ValueType

# git-check-ref-format(1), as far as it can be told without git.
_BRANCH = re.compile(
    r"(?![-/.])(?!.*(?:\.\.|//|/\.|@\{|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]+(?<![/.])"
)


class Mention(NamedTuple):
    """An agent that the file names, and where."""

    name: str
    at: Placed
    prompted: bool = False
    """It is asked by a prompt step, where the main agent can be named, too."""


class Surroundings(NamedTuple):
    """What all steps of one file share."""

    problems: Problems
    defaults: Defaults
    inputs: dict[str, ValueType]
    secrets: tuple[str, ...]
    roles: Collection[str]
    mentions: list[Mention]
    unread: tuple[str, ...]
    """Beginnings of names whose declarations could not be read."""
    use: Callable[[Fields, bool], Uses | None]
    """Reads another workflow; the flag says that a commit comes before it."""


class Draft(NamedTuple):
    """A step as written, with its place in the order."""

    id: str
    fields: Fields
    needs: tuple[str, ...]
    earlier: Mapping[str, Step | Hidden]
    """All steps by id, as this one sees them."""
    after_commit: bool


def kind_of(fields: Fields) -> str:
    """Return which of the kinds a step is, by its keys; empty when it is none."""
    return next((kind for kind in KINDS if kind in fields.node.entries), "")


def build_step(draft: Draft, around: Surroundings) -> Step | None:
    """Return the step; `None` when its kind could not be read. Mistakes go to the problems."""
    return _Builder(draft, around).step()


def branch_problem(branch: str) -> str:
    """Return why a text cannot name a branch, or an empty text."""
    if _BRANCH.fullmatch(branch) and len(branch.encode()) <= 250:
        return ""
    return f"{branch[:60]!r} cannot name a branch"


@dataclass(slots=True)
class _Builder:
    draft: Draft
    around: Surroundings

    @property
    def fields(self) -> Fields:
        return self.draft.fields

    @property
    def problems(self) -> Problems:
        return self.around.problems

    def step(self) -> Step | None:
        fields, defaults = self.fields, self.around.defaults
        own_env = fields.get(StepKeys.ENV)
        env = env_of(own_env, defaults.env)
        unread = self.around.unread + (("env",) if fields.spoilt(StepKeys.ENV) else ())
        sight = Sight(self.around.inputs, self.draft.earlier, env.values, unread=unread)
        self._check_env(own_env, sight)
        condition = self._condition(sight)
        secrets = self._secrets()
        kind = self._kind(sight)
        if (
            kind is None
            or fields.unread(StepKeys.OUTPUTS, "")
            or fields.unread(StepKeys.OUTPUT, "")
        ):
            return None
        written = isinstance(kind, Run) or (isinstance(kind, Prompt) and kind.check is not None)
        where = self.fields.node
        return Step(
            id=self.draft.id,
            kind=kind,
            where=Location(self.problems.source.file, where.line, where.column),
            needs=self.draft.needs,
            condition=condition,
            when=fields.get_or(StepKeys.WHEN, "success"),
            env=env.values,
            inherit=env.inherit,
            secrets=secrets,
            dir=fields.get_or(StepKeys.DIR, defaults.dir),
            shell=shell_of(fields, StepKeys.SHELL, defaults.shell),
            timeout=fields.get(StepKeys.TIMEOUT) or defaults.timeout,
            retry=retry_of(fields.get(StepKeys.RETRY), defaults.retry) if written else Retry(),
            sources=fields.get(StepKeys.SOURCES),
            network=fields.get_or(StepKeys.NETWORK, default=False),
            allow_failure=fields.get_or(StepKeys.ALLOW_FAILURE, default=False),
            outputs=fields.get_or(StepKeys.OUTPUTS, {}),
        )

    # Kinds.

    def _kind(self, sight: Sight) -> StepKind | None:
        match kind_of(self.fields):
            case "run":
                return self._run()
            case "prompt":
                return self._prompt(sight)
            case "commit":
                return self._commit(sight)
            case "push":
                return self._push(sight)
            case "uses":
                return self._uses(sight)
            case _:
                return None

    def _run(self) -> Run | None:
        fields = self.fields
        command = fields.get(StepKeys.RUN)
        if command is None:
            return None
        base = self.around.defaults.fix
        fix = fix_of(fields.get(StepKeys.FIX), base)
        if not fields.has(StepKeys.FIX) and not self._repeatable():
            fix = None
        self._check_fix(fields.get(StepKeys.FIX))
        defaults = self.around.defaults.escalate if fix is not None else None
        escalate = escalate_of(fields.get(StepKeys.ESCALATE), defaults)
        return Run(command, fields.get(StepKeys.AUTOFIX), fix, escalate)

    def _repeatable(self) -> bool:
        """Whether `defaults.fix` may reach the step: what it does is safe to do again."""
        asks = self.fields.get(StepKeys.SECRETS) or self.fields.get(StepKeys.NETWORK)
        return not asks and not self.draft.after_commit

    def _prompt(self, sight: Sight) -> Prompt | None:
        fields = self.fields
        text = fields.get(StepKeys.PROMPT)
        if text is None:
            return None
        self._check_template(fields.value(StepKeys.PROMPT), sight)
        agent = fields.get_or(StepKeys.AGENT, MAIN)
        if fields.has(StepKeys.AGENT) and agent != MAIN:
            mention = Mention(agent, fields.value(StepKeys.AGENT), prompted=True)
            self.around.mentions.append(mention)
        command = fields.get(StepKeys.CHECK)
        output = fields.get_or(StepKeys.OUTPUT, {})
        if fields.get(StepKeys.ACCEPT) is not None:
            gone = fields.unread(StepKeys.OUTPUT, "output")
            # Without `output` the shape has said so already.
            gone = gone if fields.has(StepKeys.OUTPUT) else ("output",)
            seen = replace(sight, output=output, unread=(*sight.unread, *gone))
            self._check_condition(fields.value(StepKeys.ACCEPT), seen)
        fix = self.around.defaults.fix if command and self._repeatable() else None
        return Prompt(
            text=text,
            agent=agent,
            check=command,
            accept=fields.get(StepKeys.ACCEPT),
            output=output,
            write=fields.get(StepKeys.WRITE),
            protect=fields.get_or(StepKeys.PROTECT, ()),
            fix=fix,
            # A check that fails goes up the ladder even where no subagent is to mend it.
            escalate=self.around.defaults.escalate if command else None,
        )

    def _commit(self, sight: Sight) -> Commit | None:
        found = self.fields.get(StepKeys.COMMIT)
        if found is None:
            return None
        if found.get(CommitKeys.MESSAGE) is not None:
            self._check_template(found.value(CommitKeys.MESSAGE), sight)
        agent = found.get(CommitKeys.AGENT)
        if agent is not None:
            mention_fixer(agent, found.value(CommitKeys.AGENT), self.around)
        message = found.get_or(CommitKeys.MESSAGE, "auto")
        if agent is not None and message != "auto":
            hint = "Delete one of the two."
            key = found.key(CommitKeys.AGENT)
            self.problems.add("an agent writes only `message: auto`", key, hint=hint)
        return Commit(
            message=message,
            agent=agent,
            files=cast("Files | tuple[str, ...]", found.get_or(CommitKeys.FILES, "run")),
        )

    def _push(self, sight: Sight) -> Push | None:
        found = self.fields.get(StepKeys.PUSH)
        if found is None:
            return None
        branch = found.get(PushKeys.BRANCH)
        if branch is not None:
            node = found.value(PushKeys.BRANCH)
            self._check_template(node, sight)
            why = "" if "${{" in branch else branch_problem(branch)
            if why:
                self.problems.add(why, node, hint="Write a name such as `topic/tidy-up`.")
        auth = found.get_or(PushKeys.AUTH, "auto")
        self._check_auth(auth, found)
        return Push(found.get_or(PushKeys.REMOTE, "origin"), branch, auth)

    def _check_auth(self, auth: str, push: Fields) -> None:
        way, _, name = auth.partition(":")
        if way == "secret" and name not in self.fields.get_or(StepKeys.SECRETS, ()):
            message = f"this step does not name the secret `{name}`"
            hint = f"Add `secrets: [{name}]` to the step."
            self.problems.add(message, push.value(PushKeys.AUTH), hint=hint)

    def _uses(self, sight: Sight) -> Uses | None:
        if self.fields.get(StepKeys.WITH) is not None:
            values = cast("MappingNode", self.fields.value(StepKeys.WITH))
            for _, value in values.entries.values():
                self._check_template(value, sight)
        if self.fields.get(StepKeys.USES) is None:
            return None
        return self.around.use(self.fields, self.draft.after_commit)

    # Checks.

    def _check_env(self, own: Environment | None, sight: Sight) -> None:
        """Check templates in variables; they do not see one another."""
        outside = replace(sight, env=())
        for node in own.nodes.values() if own else ():
            self._check_template(node, outside)

    def _condition(self, sight: Sight) -> Condition | None:
        source = self.fields.get(StepKeys.IF)
        if source is None:
            return None
        node = self.fields.value(StepKeys.IF)
        self._check_condition(node, sight)
        where = Location(self.problems.source.file, node.line, node.column)
        return Condition(source, self.fields.get(StepKeys.ELSE) == "stop", where)

    def _check_condition(self, node: Node, sight: Sight) -> None:
        assert isinstance(node, Scalar)  # a text, or its shape would have refused it
        try:
            for path, column in paths(node.text):
                _check_settled(path, column, sight, self.draft.id)
                if sight.is_unread(path):
                    return
            found = check(node.text, sight, FUNCTIONS, sight.choices)
            if found != "boolean":
                example = f"{node.text.strip()} != {'0' if found == 'number' else chr(39) * 2}"
                message = f"a condition is true or false, but this is a {found}"
                raise ExpressionError(message, 1, hint=f"Compare it, as in `{example[:80]}`.")
        except ExpressionError as error:
            at = place_in(node, error.column - 1, self.problems)
            self.problems.add(error.message, at, hint=error.hint)

    def _check_template(self, node: Node, sight: Sight) -> None:
        check_template(node, sight, self.problems, self.draft.id)

    def _secrets(self) -> tuple[str, ...]:
        names = self.fields.get_or(StepKeys.SECRETS, ())
        for number, name in enumerate(names):
            if name in self.around.secrets:
                continue
            node = cast("Sequence", self.fields.value(StepKeys.SECRETS)).items[number]
            hint = did_you_mean(name, self.around.secrets, label="There")
            hint = hint or f"Add `secrets: [{name}]` at the top of the file."
            self.problems.add(f"the workflow's `secrets` do not list `{name}`", node, hint=hint)
        return names

    def _check_fix(self, value: bool | str | Fields | None) -> None:  # noqa: FBT001  as the file says it
        if value is not None:
            check_fix(value, self.fields.value(StepKeys.FIX), self.around)


def check_template(node: Node, sight: Sight, problems: Problems, step: str = "") -> None:
    """Check each `${{ }}` of a text for a step."""
    if not isinstance(node, Scalar) or "${{" not in node.text:
        return
    try:
        for path, offset in template_paths(node.text):
            _check_settled(path, offset + 1, sight, step)
            if path not in sight and not sight.is_unread(path):
                raise unknown_name(path, offset + 1, sight)
    except ExpressionError as error:
        problems.add(error.message, place_in(node, error.column - 1, problems), hint=error.hint)


def _check_settled(path: str, column: int, sight: Sight, step: str) -> None:
    other, why = sight.hidden(path)
    if why == "later" and other == step:
        raise ExpressionError(f"`{path}` is the step's own, which has not run yet", column)
    if why == "later":
        message = f"step `{other}` may not have ended when `{step}` starts"
        hint = f"Add `{other}` to the `needs` of `{step}`."
        raise ExpressionError(message, column, hint=hint)


def check_fix(value: bool | str | Fields, node: Node, around: Surroundings) -> None:  # noqa: FBT001  as the file says it
    """Check the agent and the model role that a `fix` names."""
    match value:
        case bool():
            return
        case str():
            mention_fixer(value, node, around)
        case Fields():
            agent = value.get(FixKeys.AGENT)
            if agent is not None:
                mention_fixer(agent, value.value(FixKeys.AGENT), around)
            for key in (FixKeys.MODEL, FixKeys.THEN):
                role = value.get(key)
                if role is not None and role not in around.roles:
                    hint = did_you_mean(role, around.roles, label="Roles")
                    around.problems.add(
                        f"there is no model role `{role}`", value.value(key), hint=hint
                    )
            _check_then(value, around)
        case _:
            assert_never(value)


def _check_then(fix: Fields, around: Surroundings) -> None:
    """Check that `then` is another role than the first, and not main's."""
    then = fix.get(FixKeys.THEN)
    if then is None or then not in (MAIN, fix.get(FixKeys.MODEL)):
        return
    message, hint = "`then` is the role that is asked first", "Name a dearer one, or leave it out."
    if then == MAIN:
        message, hint = "`then` is no place for main", "Write `escalate: true`: it comes last."
    around.problems.add(message, fix.value(FixKeys.THEN), hint=hint)


def mention_fixer(name: str, node: Node, around: Surroundings) -> None:
    """Remember an agent that is to mend; the main agent is asked by `escalate` only."""
    if name == MAIN:
        hint = "Write `escalate: true`: it comes after the subagents."
        around.problems.add("the main agent is no `fix`", node, hint=hint)
    else:
        around.mentions.append(Mention(name, node))
