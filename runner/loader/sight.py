"""Decides which dotted names a step may use in expressions and templates, and their types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen
from runner.outcome import Status, Verdict
from runner.plan import Prompt, Step, ValueType

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from runner.loader.graph import Graph

Hidden = Literal["later", "unread"]
"""Why a step is not in sight: it may not have ended, or could not be read."""

FUNCTIONS = ("git.changed",)

_FIXED: Mapping[str, ValueType] = {
    "git.branch": "string",
    "git.dirty": "boolean",
    "run.id": "string",
}
_OF_STEP = ("status", "verdict", "reason")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "status": tuple(Status),
    # Empty when no attempt was needed.
    "verdict": ("", *Verdict),
}


@frozen
class Sight(Mapping[str, ValueType]):
    """Names in sight of one step, made up on demand: a table for each of many steps is slow."""

    inputs: Mapping[str, ValueType]
    steps: Mapping[str, Step | Hidden]
    """All steps by id."""
    env: Collection[str] = ()
    output: Mapping[str, ValueType] = field(default_factory=dict[str, ValueType])
    unread: Collection[str] = ()
    """Beginnings of names whose declarations could not be read."""

    def __getitem__(self, path: str) -> ValueType:
        head, _, rest = path.partition(".")
        match head:
            case "inputs":
                return self.inputs[rest]
            case "output":
                return self.output[rest]
            case "env":
                if rest in self.env:
                    return "string"
            case "steps":
                return self._of_step(rest)
            case _:
                return _FIXED[path]
        raise KeyError(path)

    def _of_step(self, rest: str) -> ValueType:
        name, _, attribute = rest.partition(".")
        step = self.steps[name]
        if not isinstance(step, Step):
            raise KeyError(rest)
        if attribute in _OF_STEP:
            return "string"
        kind, _, output = attribute.partition(".")
        if kind != "outputs":
            raise KeyError(rest)
        return outputs_of(step)[output]

    def __iter__(self) -> Iterator[str]:
        yield from (f"inputs.{name}" for name in self.inputs)
        yield from (f"output.{name}" for name in self.output)
        yield from (f"env.{name}" for name in self.env)
        for name, step in self.steps.items():
            if isinstance(step, Step):
                yield from (f"steps.{name}.{attribute}" for attribute in _OF_STEP)
                yield from (f"steps.{name}.outputs.{output}" for output in outputs_of(step))
        yield from _FIXED

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def choices(self, path: str) -> tuple[str, ...] | None:
        """Return the only texts that a name can hold, or `None` when it can hold any."""
        head, _, attribute = path.rpartition(".")
        return _CHOICES.get(attribute) if head.count(".") == 1 and path in self else None

    def hidden(self, path: str) -> tuple[str, Hidden | None]:
        """Return the step that a name speaks of, and why it cannot be seen, if so."""
        head, _, rest = path.partition(".")
        name = rest.partition(".")[0]
        found = self.steps.get(name) if head == "steps" else None
        return name, None if isinstance(found, Step) else found

    def is_unread(self, path: str) -> bool:
        """Return whether a name cannot be judged, for its declaration could not be read."""
        if self.hidden(path)[1] == "unread":
            return True
        return any(path == one or path.startswith(f"{one}.") for one in self.unread)


@frozen
class Earlier(Mapping[str, Step | Hidden]):
    """All steps of a file by id, as one of them sees them."""

    built: Sequence[Step | None]
    numbers: Mapping[str, int]
    graph: Graph
    number: int
    """Of the step that looks."""

    def __getitem__(self, name: str) -> Step | Hidden:
        other = self.numbers[name]
        if not self.graph.comes_after(self.number, other):
            return "later"
        return self.built[other] or "unread"

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def outputs_of(step: Step) -> Mapping[str, ValueType]:
    """Return what a step hands on, by name."""
    return step.kind.output if isinstance(step.kind, Prompt) else step.outputs
