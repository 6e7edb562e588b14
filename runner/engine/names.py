"""Looks up the dotted names of expressions and templates: inputs, env, steps, git, run."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING

from runner.expressions import evaluate, render, template_paths
from runner.frozen import frozen
from runner.outcome import StepOutcome
from runner.plan import Commit, Prompt, Push, Uses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.plan import Step, Workflow


@frozen
class GitView:
    """What expressions may ask of git, as it is when a step's turn comes."""

    branch: str = ""
    dirty: bool = False
    changed: Callable[[str], bool] = lambda glob: False


@frozen
class Names:
    """The names in sight of one step."""

    inputs: Mapping[str, object]
    run_id: str
    outcomes: Mapping[str, StepOutcome] = field(default_factory=dict[str, StepOutcome])
    """Of the steps of the same workflow file that ended, by plain id."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    git: GitView = GitView()
    output: Mapping[str, object] = field(default_factory=dict[str, object])
    untrusted: frozenset[str] = frozenset()
    """Names of the inputs that are data, not instructions."""
    untrusted_env: frozenset[str] = frozenset()
    """Names of the variables that hold such data."""

    def look_up(self, path: str) -> object:
        """Return the value of a dotted name; empty text for what has not happened."""
        head, _, rest = path.partition(".")
        match head:
            case "inputs":
                return self.inputs.get(rest, "")
            case "run":
                return self.run_id
            case "env":
                return self.env.get(rest, "")
            case "output":
                return self.output.get(rest, "")
            case "git":
                return self.git.branch if rest == "branch" else self.git.dirty
            case _:
                return self._of_step(rest)

    def _of_step(self, rest: str) -> object:
        step, _, attribute = rest.partition(".")
        outcome = self.outcomes.get(step)
        if outcome is None:
            return ""
        kind, _, name = attribute.partition(".")
        match kind:
            case "status":
                return outcome.status.value
            case "reason":
                return outcome.reason
            case "verdict":
                return outcome.attempts[-1].verdict.value if outcome.attempts else ""
            case _:
                return outcome.outputs.get(name, "")

    def holds(self, source: str) -> bool:
        """Evaluate a boolean expression, which the loader has type-checked."""
        return bool(evaluate(source, self.look_up, {"git.changed": self.git.changed}))

    def for_step(self, step: Step) -> Names:
        """Return these names with the step's own declared variables in sight."""
        env = {name: render(value, self.look_up) for name, value in step.env.items()}
        return replace(self, env=env, untrusted_env=self.tainted(step.env))

    def is_untrusted(self, path: str) -> bool:
        """Tell whether a name stands for data that a model must not take for instructions."""
        head, _, name = path.partition(".")
        match head:
            case "steps":
                return True
            case "inputs":
                return name in self.untrusted
            case "env":
                return name in self.untrusted_env
            case _:
                return False

    def tainted(self, values: Mapping[str, object]) -> frozenset[str]:
        """Return the names of the templates that such data goes into."""
        return frozenset(
            name
            for name, text in values.items()
            if isinstance(text, str)
            and any(self.is_untrusted(path) for path, _ in template_paths(text))
        )


def untrusted_inputs(workflow: Workflow) -> frozenset[str]:
    """Return the names of a workflow's inputs that it declares as data."""
    return frozenset(name for name, one in workflow.inputs.items() if one.untrusted)


def asks_git(step: Step) -> bool:
    """Tell whether an expression or template of the step looks at git, which costs processes."""
    texts = [*step.env.values(), step.dir, step.condition.source if step.condition else ""]
    match step.kind:
        case Prompt(text):
            texts.append(text)
        case Commit(message):
            texts.append(message)
        case Push(branch=str(branch)):
            texts.append(branch)
        case Uses(workflow, inputs):
            texts.extend(value for value in inputs.values() if isinstance(value, str))
            return any("git." in text for text in texts) or any(map(asks_git, workflow.steps))
        case _:
            pass
    return any("git." in text for text in texts)
