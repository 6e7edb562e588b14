"""Makes a story from a seed: a workflow, how its world behaves, and what goes wrong. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from typing import Any

SECRET = "xyzzy-31415-plugh"
DEFECTS = ("a1", "b2", "c3")
WORSE = "x9"
GIT = ("GitIntent", "commit", "committed", "committed", "committed", "GitFact", "push", "pushed")
"""Moments around what git does once."""


@dataclass(kw_only=True)
class Behaviour:
    """What a step's command does; its file holds defects, a line each, and none lets it pass."""

    step: str
    """Id as people see it."""
    file: str
    defects: tuple[str, ...] = ()
    seconds: float = 1.0
    timeout: float | None = None
    flaky: int = 0
    """How often it fails whatever its file says."""
    writes: bool = False
    """Whether it writes a file of its own each time."""
    outputs: bool = False
    secret: bool = False
    spoils: str = ""
    """Another step's file, which its first run leaves with a defect."""

    def passes(self, text: str) -> bool:
        """Tell whether it passes on a content of its file."""
        return not text.split() and not self.hangs

    @property
    def hangs(self) -> bool:
        return self.timeout is not None and self.seconds > self.timeout


@dataclass(kw_only=True)
class Mishaps:
    """What goes wrong in one life; times are seconds from its start."""

    crash: float | None = None
    """Where in the run, from 0 to 1, its process is killed."""
    crash_in: str = ""
    """The first moment of this name is where, instead."""
    signal: tuple[float, int] | None = None
    edits: list[tuple[float, str, str]] = field(default_factory=list[tuple[float, str, str]])
    """Time, path and content of what the user writes."""
    offline: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Path and content of what the user writes before this life begins."""


@dataclass(kw_only=True)
class Story:
    """All that one seed says."""

    seed: int
    workflow: dict[str, Any]
    used: dict[str, Any] | None
    behaviours: dict[str, Behaviour]
    """By the command's own words."""
    actions: dict[str, dict[str, dict[str, str]]]
    """What models do: by step, role, and state of its file."""
    prompts: dict[str, str]
    """File that each prompt step's agent writes, by step."""
    lives: list[Mishaps]
    jobs: int
    fail_fast: bool
    budget_usd: str
    secrets: bool
    delay: float
    same: bool
    """Whether an uninterrupted run must end in the same way."""

    def steps(self) -> dict[str, dict[str, Any]]:
        """Return the definition of every step by shown id, those of the used workflow too."""
        found = {step["id"]: step for step in self.workflow["steps"]}
        for step in self.workflow["steps"]:
            if "uses" in step and self.used is not None:
                found |= {f"{step['id']}/{one['id']}": one for one in self.used["steps"]}
        return found

    def script(self, *, healed: bool) -> str:
        """Return what the scripted models answer with."""
        rules: list[dict[str, Any]] = []
        for step, file in self.prompts.items():
            write = {"call": "write_file", "with": {"path": file, "content": ""}}
            rules += [
                {"when": {"step": step, "text": "Wrote "}, "done": "written"},
                {"when": {"step": step, "regex": "state-|not asked for|interrupted:|no command"}},
            ]
            rules[-1] |= write
        for step, roles in self.actions.items():
            file = next(b.file for b in self.behaviours.values() if b.step == step)
            rules += [
                {"when": {"step": step, "text": "interrupted:"}, "call": "check"},
                {"when": {"step": step, "text": "Wrote "}, "done": "changed it"},
                {"when": {"step": step, "text": "exit 0: the command"}, "done": "it passes"},
            ]
            rules.append({"when": {"step": step, "role": "main", "text": WORSE}})
            rules[-1] |= self._write(file, [])
            for role, states in roles.items():
                rules += self._reactions(step, role, states, file, healed=healed)
        rules.append({"cannot": "no idea"})
        for rule in rules:
            if self.delay and "error" not in rule:
                rule.setdefault("delay", self.delay)
        return json.dumps({"as": "anthropic:claude-haiku-5-5", "rules": rules}, indent=1)

    def _reactions(
        self, step: str, role: str, states: dict[str, str], file: str, *, healed: bool
    ) -> list[dict[str, Any]]:
        """Return one rule for all states that are answered alike."""
        rules: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for state, action in states.items():
            answer = self._answer(action, file, state, healed)
            if action != "cannot":
                rules.setdefault(json.dumps(answer), (answer, []))[1].append(state)
        found: list[dict[str, Any]] = []
        for answer, alike in rules.values():
            regex = f"state-{_flat(step)}-({'|'.join(alike)})(?![-\\w])"
            found.append({"when": {"step": step, "role": role, "regex": regex}, **answer})
        return found

    def _answer(self, action: str, file: str, state: str, healed: bool) -> dict[str, Any]:
        left = state.split("-")
        match action:
            case "outage":
                return self._write(file, []) if healed else {"error": 529}
            case "part":
                return self._write(file, left[1:])
            case "worse":
                return self._write(file, [*left, WORSE])
            case "mend":
                return self._write(file, [])
            case "foul":
                return self._write(".runner/mine.md", left)
            case "idle":
                return {"done": "nothing to do"}
            case "reject":
                return {"error": 400}
            case "hang":
                return {"cannot": "too late", "delay": 900}
            case _:
                return {"cannot": "I do not know how"}

    def _write(self, file: str, lines: list[str]) -> dict[str, Any]:
        content = "".join(f"{line}\n" for line in lines)
        return {"call": "write_file", "with": {"path": file, "content": content}}


def _flat(step: str) -> str:
    return step.replace("/", "_")


def state_of(step: str, text: str) -> str:
    """Return the word by which a failing command tells the state of its file."""
    return f"state-{_flat(step)}-{'-'.join(text.split())}"


def needed(steps: list[dict[str, Any]], last: str) -> set[str]:
    """Return all steps that one needs, by default the one before it."""
    names = [step["id"] for step in steps]
    found, todo = set[str](), [last]
    while todo:
        at = names.index(todo.pop())
        more: list[str] = steps[at].get("needs", names[max(0, at - 1) : at])
        todo += [name for name in more if name not in found]
        found.update(more)
    return found


def make(seed: int) -> Story:
    """Make the story of a seed."""
    return _Maker(seed).make()


class _Maker:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.r = Random(seed)
        self.models = self.r.random() < 0.65
        self.git = self.r.random() < 0.35
        self.behaviours: dict[str, Behaviour] = {}
        self.actions: dict[str, dict[str, dict[str, str]]] = {}
        self.prompts: dict[str, str] = {}
        self.secrets = False
        self.lasting = True
        """Whether nothing depends on when something happens."""

    def make(self) -> Story:
        r = self.r
        count = r.choice((1, 2, 3, 4, 5, 6, 8, 10))
        steps: list[dict[str, Any]] = []
        used = None
        for index in range(count):
            kind = r.random()
            if kind < 0.12 and self.models:
                step = self.prompt(index)
            elif kind < 0.2 and used is None and index:
                inner = [self.run(i, f"s{index}/") for i in range(r.randint(1, 3))]
                used = {"name": "inner", "steps": inner}
                self.needs(inner)
                step = {"id": f"s{index}", "uses": "./inner.yaml"}
            else:
                step = self.run(index)
            steps.append(step)
        self.needs(steps)
        self.turns(steps)
        if self.git:
            self.ship(steps)
        workflow: dict[str, Any] = {
            "name": "sim",
            "budget": {"usd": 50, "time": "3h"},
            "inputs": {"flag": {"type": "string", "default": r.choice("ab")}},
            "steps": steps,
        }
        if self.secrets:
            workflow["secrets"] = ["TOKEN"]
        lives = self.lives([step["id"] for step in steps])
        if r.random() < 0.08:
            workflow["budget"]["time"] = f"{r.randint(5, 60)}s"
            self.lasting = False
        usd = workflow["budget"]["usd"]
        if self.models and r.random() < 0.15:
            usd = workflow["budget"]["usd"] = r.choice((0.02, 0.05, 0.1))
            self.lasting = False
        fail_fast = r.random() < 0.1
        return Story(
            seed=self.seed,
            workflow=workflow,
            used=used,
            behaviours=self.behaviours,
            actions=self.actions,
            prompts=self.prompts,
            lives=lives,
            jobs=r.choice((1, 2, 4)),
            fail_fast=fail_fast,
            budget_usd=str(usd),
            secrets=self.secrets,
            delay=r.choice((0.0, 0.5, 3.0)),
            same=self.lasting and not fail_fast,
        )

    def ship(self, steps: list[dict[str, Any]]) -> None:
        """Commit at the end, and perhaps push."""
        r = self.r
        save: dict[str, Any] = {"id": "save", "commit": {"message": "Save it"}}
        if r.random() < 0.5:
            save["commit"]["files"] = "all"
        if r.random() < 0.6:
            save["needs"] = [step["id"] for step in r.sample(steps, r.randint(1, len(steps)))]
        steps.append(save)
        if len(needed(steps, "save")) < len(steps) - 1:
            self.lasting = False  # what else is mended by then is committed, or not
        plain = [does for does in self.behaviours.values() if "/" not in does.step]
        if len(plain) > 1 and r.random() < 0.4:
            other, does = r.sample(plain, 2)
            does.spoils = other.file
            self.lasting = False
        if r.random() < 0.6:
            steps.append({"id": "send", "push": {"remote": "origin"}})

    def run(self, index: int, prefix: str = "") -> dict[str, Any]:
        r = self.r
        name = f"s{index}"
        shown = prefix + name
        flat = _flat(shown)
        step: dict[str, Any] = {"id": name, "run": f"work {flat}"}
        does = Behaviour(step=shown, file=f"src/{flat}.txt", seconds=r.choice((0.0, 0.2, 1.0, 5.0)))
        if r.random() < (0.3 if self.git else 0.6):
            does.defects = tuple(r.sample(DEFECTS, r.randint(1, 3)))
        self.extras(step, does, prefix)
        mends = self.models and r.random() < 0.75 and not step.get("secrets")
        if mends:
            step["fix"] = {"agent": "fixer", "attempts": r.randint(1, 3)}
            if r.random() < 0.7:
                step["escalate"] = {"max": r.randint(1, 2)}
            else:
                step["escalate"] = False
            self.act(shown, does)
        if r.random() < 0.3:
            step["autofix"] = f"fix {flat}"
        if r.random() < 0.3:
            step["sources"] = [does.file]
        self.behaviours[step["run"]] = does
        return step

    def extras(self, step: dict[str, Any], does: Behaviour, prefix: str) -> None:
        r = self.r
        if r.random() < 0.15:
            step["timeout"] = "3s"
            does.timeout = 3.0
        if r.random() < 0.2:
            times = r.randint(1, 2)
            step["retry"] = {"attempts": times, "delay": r.choice(("0s", "2s"))}
            does.flaky = r.choice((0, 1, times))
        does.writes = r.random() < 0.3
        if r.random() < 0.15:
            step["outputs"] = {"word": "string"}
            does.outputs = True
        if r.random() < 0.12 and not prefix:
            step["secrets"] = ["TOKEN"]
            does.secret = self.secrets = True
        if r.random() < 0.15:
            step["allow_failure"] = True

    def act(self, shown: str, does: Behaviour) -> None:
        r = self.r
        if self.git:
            does.defects = tuple(sorted(does.defects))
            states = ["-".join(c) for n in range(1, 4) for c in combinations(does.defects, n)]
            likely = ("mend", "mend", "mend", "part", "cannot", "outage")
            self.actions[shown] = {
                role: {state: r.choice(likely) for state in states} for role in ("cheap", "main")
            }
            return
        cheap = (
            "mend",
            "mend",
            "mend",
            "part",
            "part",
            "worse",
            "idle",
            "cannot",
            "foul",
            "reject",
            "outage",
            "hang",
        )
        main = ("mend", "mend", "mend", "part", "idle", "cannot", "outage", "reject")
        # The order in the file is the order of the defects, whatever it was made by.
        does.defects = tuple(sorted(does.defects))
        states = ["-".join(c) for n in range(1, 4) for c in combinations(does.defects, n)]
        self.actions[shown] = {
            "cheap": {state: r.choice(cheap) for state in states},
            "main": {state: r.choice(main) for state in states},
        }

    def prompt(self, index: int) -> dict[str, Any]:
        r = self.r
        name, file = f"p{index}", f"src/p{index}.txt"
        step: dict[str, Any] = {
            "id": name,
            "prompt": f"Empty the file. state-{name}",
            "agent": r.choice(("main", "fixer")),
        }
        if r.random() < 0.7:
            step["check"] = f"work {name}"
            self.behaviours[step["check"]] = Behaviour(step=name, file=file, defects=("a1",))
        self.prompts[name] = file
        return step

    def needs(self, steps: list[dict[str, Any]]) -> None:
        r = self.r
        for index, step in enumerate(steps):
            choice = r.random()
            if choice < 0.3:
                step["needs"] = []
            elif choice < 0.6 and index:
                step["needs"] = [
                    s["id"] for s in r.sample(steps[:index], r.randint(1, min(3, index)))
                ]

    def turns(self, steps: list[dict[str, Any]]) -> None:
        """Give steps their `when` and `if`."""
        r = self.r
        for index, step in enumerate(steps):
            if r.random() < 0.12:
                step["when"] = r.choice(("always", "failure"))
            if r.random() < 0.1 and "uses" not in step:
                step["if"] = "inputs.flag == 'a'"
                if r.random() < 0.3:
                    step["else"] = "stop"
                    self.lasting = False
            elif r.random() < 0.1 and index and step.get("needs"):
                step["if"] = f"steps.{step['needs'][0]}.status == 'succeeded'"

    def lives(self, names: list[str]) -> list[Mishaps]:
        r = self.r
        lives: list[Mishaps] = []
        for _ in range(r.choice((0, 1, 1, 1, 2, 3))):
            life = Mishaps()
            if r.random() < 0.8:
                life.crash = r.random()
                if self.git and r.random() < 0.8:
                    life.crash_in = r.choice(GIT)
            else:
                life.signal = (r.choice((0.1, 0.7, 2.0, 6.0)), r.choice((2, 15)))
                self.lasting = False
            lives.append(life)
        lives.append(Mishaps())
        if r.random() < 0.25:
            self.lasting = False
            for life in lives:
                if r.random() < 0.6:
                    path = r.choice(("user.txt", f"src/{r.choice(names)}.txt"))
                    life.edits.append((r.random() * 8, path, f"c3\nuser{len(life.edits)}\n"))
                if r.random() < 0.3:
                    path = r.choice(("mine.txt", f"src/{r.choice(names)}.txt"))
                    life.offline.append((path, "c3\noffline\n"))
        return lives
