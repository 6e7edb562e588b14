"""Builds the sections about the whole run: head, what failed, cost, cache, decisions. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.console.money import baseline_text, cost_text
from runner.console.style import (
    UNICODE,
    count,
    duration,
    known_money,
    model_name,
    money,
    plural,
    share,
)
from runner.console.summary import git_text, next_steps, notes, verdict
from runner.page.charts import REQUESTS, cache_chart, cost_chart, uncached
from runner.page.html import Html, el, join
from runner.page.parts import details, facts, lines, output, quiet, section, table
from runner.plan import KEEPALIVE
from runner.report import guarded, meaning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.page.facts import Made, Story
    from runner.page.html import Child
    from runner.page.room import Room
    from runner.report import ModelReport, Report, Total

DECISIONS = 250
"""Decisions that are told; of more, the first ones."""
_LEDGER = 400
_FAILURES = 40


def head(report: Report) -> Html:
    """Build the head: what ran, how it ended, what it took."""
    sign, style = UNICODE.of("cancelled" if report.exit_code == 7 else report.status)
    words = "".join(part.text for part in verdict(report, glyphs=UNICODE))
    said = words.removeprefix(f"{sign} ").removesuffix("  [scripted]")
    scripted = el("span", "scripted", class_="badge") if report.scripted else None
    return el(
        "header",
        el("p", "Report of run ", el("code", report.run_id), class_="quiet"),
        el("h1", report.workflow or report.run_id),
        el(
            "p",
            el("span", f"{sign} ", class_=style, aria_hidden="true"),
            el("strong", said),
            " ",
            scripted,
            class_="ending",
        ),
        _figures(report),
        facts({"Short of": report.lacked, "Next": report.advice, "Git": git_text(report)}),
    )


def about(report: Report) -> Html:
    """Build what ran where, with what."""
    roles = [f"{r} {model.id}" for r, model in report.models.items() if r != KEEPALIVE]
    return section(
        "about",
        "About this run",
        facts(
            {
                "Run": el("code", report.run_id),
                "Started": _date(report.started_at),
                "Exit code": _exit(report),
                "Cost": cost_text(report),
                "Else": baseline_text(report),
                "Workflow file": el("code", report.file) if report.file else None,
                "Work tree": el("code", report.root) if report.root else None,
                "Models": ", ".join(roles),
                "Sandbox": report.sandbox,
                "Prices": ", of ".join(report.prices or ()),
                "State": el("code", report.state_dir) if report.state_dir else None,
            }
        ),
    )


def _exit(report: Report) -> str:
    code = report.exit_code
    return meaning(None) if code is None else f"{code}: {meaning(code)}"


def _date(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch)) if epoch else ""


def _figures(report: Report) -> Html:
    done = sum(step.status == "succeeded" for step in report.steps)
    figures: list[tuple[str, str]] = [
        (duration(report.seconds), "in all"),
        (f"{done} of {len(report.steps)}", "steps succeeded"),
    ]
    if report.ledger:
        cost = known_money(report.known_cost_usd, int(report.cost_usd is None))
        of = f"of {money(report.budget_usd)}" if report.budget_usd is not None else "spent"
        figures.append((cost, f"{of}, nothing paid: scripted" if _free(report) else of))
    elif report.models or report.steps:
        figures.append(("no tokens", "no model was asked"))
    if report.baseline.inline_usd is not None:
        figures.append((f"~{money(report.baseline.inline_usd)}", "inline on main (estimate)"))
    if report.baseline.switch_usd is not None:
        figures.append((f"~{money(report.baseline.switch_usd)}", "by switching (estimate)"))
    return el(
        "ul",
        [el("li", el("strong", figure), " ", el("span", what)) for figure, what in figures],
        class_="figures",
    )


def _free(report: Report) -> bool:
    return bool(report.scripted_usd) and report.scripted_usd == report.known_cost_usd


def failures(report: Report, anchors: Mapping[str, str], room: Room, where: str) -> Html | None:
    """Build what failed, first of all; `None` where nothing did."""
    failed = [step for step in report.steps if step.failed and not step.allowed]
    if not failed:
        return None
    told: list[Html] = []
    for step in failed[:_FAILURES]:
        tail, cut = room.tail(step.tail, 12_000)
        advice = next_steps(step, report, where=where)
        told.append(
            el(
                "article",
                el("h3", _named(step.id, anchors)),
                el("p", el("code", step.title)) if step.title else None,
                el("p", step.reason or step.status),
                quiet("The end of its output:" if cut else "Its output:") if tail.strip() else None,
                output(tail) if tail.strip() else None,
                el("ul", [el("li", one) for one in advice if one != step.reason]),
                class_="failure",
            )
        )
    more = len(failed) - len(told)
    rest = quiet(f"{plural(more, 'step')} more failed: see the steps.") if more else None
    return section("failed", "What failed", told, rest)


def _named(step: str, anchors: Mapping[str, str]) -> Child:
    """Name a step, with a link to its course where that is told."""
    anchor = anchors.get(step)
    return el("a", step, href=f"#{anchor}") if anchor else step


def remarks(report: Report, where: str) -> Html | None:
    """Build what a person should know that is no failure of a step; `None` without any."""
    told = notes(report, width=400, glyphs=UNICODE, where=where)
    if not told:
        return None
    shown = told[:60]
    rest = quiet(f"{len(told) - len(shown)} more lines: runner show {report.run_id}{where}")
    rest = rest if len(told) > len(shown) else None
    return section("remarks", "Worth knowing", el("div", lines(shown), class_="remarks"), rest)


# -- money -----------------------------------------------------------------------------------------


def costs(report: Report) -> Html | None:
    """Build what the run cost, by role, rung and attempt; `None` where no model was asked."""
    if not report.ledger:
        return None
    asked = {role: model for role, model in report.models.items() if model.usage.requests}
    return section(
        "cost",
        "Cost",
        cost_chart(report),
        quiet(
            f"Estimates, not measurements: runner whatif {report.run_id} tells how they are made."
        )
        if report.baseline.inline_usd is not None
        else None,
        el("h3", "By role"),
        _by_role(report, asked),
        el("h3", "By rung"),
        _by_rung(report),
        details("By step and attempt", _by_attempt(report)),
    )


_TOKENS = ["requests", "input", "of it read", "of it written", "output", "cost"]


def _total(total: Total) -> list[str]:
    usage = total.usage
    return [
        str(usage.requests),
        f"{usage.input_tokens:,}",
        f"{usage.cache_read_tokens:,} ({share(usage.cache_read_tokens, usage.input_tokens)})",
        f"{usage.cache_write_tokens:,}",
        f"{usage.output_tokens:,}",
        known_money(total.known_usd, total.unknown),
    ]


def _by_role(report: Report, asked: Mapping[str, ModelReport]) -> Html:
    rows: list[list[Child]] = [
        [role, el("code", model_name(model.id, {})), *_total(model.total)]
        for role, model in asked.items()
    ]
    cost = known_money(report.known_cost_usd, int(report.cost_usd is None))
    rows.append(["this run", "", *[""] * 5, cost])
    base = report.baseline
    for name, usd in (("inline on main", base.inline_usd), ("by switching", base.switch_usd)):
        if usd is not None:
            rows.append([f"{name} (estimate)", "", *[""] * 5, f"about {money(usd)}"])
    return table("Cost by role", ["role", "model", *_TOKENS], rows, aligned="<<>>>>>>")


def _by_rung(report: Report) -> Html:
    rows: list[list[Child]] = [
        [
            rung.rung.value,
            str(rung.steps),
            str(rung.attempts),
            duration(rung.seconds),
            str(rung.usage.requests),
            count(rung.usage.input_tokens),
            money(rung.cost_usd)
            if not rung.total.unknown
            else known_money(rung.total.known_usd, 1),
        ]
        for rung in report.rungs
    ]
    titles = ["rung", "steps settled", "attempts", "time", "requests", "tokens in", "cost"]
    return table("Work and cost by rung", titles, rows, aligned="<>>>>>>")


def _by_attempt(report: Report) -> Html:
    rows: list[list[Child]] = [
        [
            one.step or KEEPALIVE,
            str(one.attempt) if one.step else "",
            one.rung.value,
            el("code", model_name(one.model, {})),
            *_total(one.total),
        ]
        for one in report.by_attempt[:_LEDGER]
    ]
    titles = ["step", "attempt", "rung", "model", *_TOKENS]
    made = table("Cost by step and attempt", titles, rows, aligned="<><<>>>>>>")
    more = len(report.by_attempt) - len(rows)
    rest = f"{more:,} rows more: runner show {report.run_id} --cost" if more > 0 else ""
    return join(made, quiet(rest) if rest else None)


# -- cache -----------------------------------------------------------------------------------------


def cache(report: Report) -> Html | None:
    """Build how the main conversation's prompt cache was read; `None` without such requests."""
    requests = list(guarded(report))
    if not requests:
        return None
    prefix = report.prefix
    said = plural(prefix.requests, "request") + f", {plural(prefix.conversations, 'conversation')}"
    if prefix.unbroken:
        ending = el("p", el("strong", "✓ unbroken", class_="ok"), f": {said}")
    else:
        times = plural(len(prefix.breaks), "time")
        ending = el("p", el("strong", f"✗ BROKEN {times}", class_="bad"), f": {said}")
    rows: Sequence[Sequence[Child]] = [
        [
            str(number),
            row.step or KEEPALIVE,
            f"{row.usage.input_tokens:,}" if row.usage.input_tokens else "?",
            f"{row.usage.cache_read_tokens:,}" if row.usage.input_tokens else "?",
            "?" if how.expected is None else f"{how.expected:,}",
            f"{row.usage.cache_write_tokens:,}",
            f"{uncached(row.usage):,}",
            el("strong", f"BROKEN: {how.how}", class_="bad") if how.broken else how.how,
            how.why,
        ]
        for number, (row, how) in enumerate(requests, start=1)
    ][-REQUESTS:]
    titles = ["#", "step", "input", "read", "expected", "written", "neither", "prefix", "why"]
    left = len(requests) - len(rows)
    return section(
        "cache",
        "Main's prompt cache",
        ending,
        cache_chart(report),
        quiet(f"The first {left:,} requests: runner show {report.run_id} --prefix")
        if left
        else None,
        details(
            "The same as a table",
            table(
                "Requests of the main conversation",
                titles,
                rows,
                aligned=">" + "<" + ">" * 5 + "<<",
            ),
        ),
    )


# -- decisions -------------------------------------------------------------------------------------


def decisions(story: Story, anchors: Mapping[str, str], room: Room) -> Html | None:
    """Build what was decided, with the arithmetic; `None` where nothing was."""
    if not story.decisions:
        return None
    told = (_decision(one, anchors) for one in story.decisions[:DECISIONS])
    shown = [one for one in told if room.takes(one)]
    more = len(story.decisions) - len(shown)
    rest = quiet(f"{more:,} more: runner explain {story.report.run_id}") if more else None
    return section("decisions", "Decisions", shown, rest)


def _decision(one: Made, anchors: Mapping[str, str]) -> Html:
    title = _named(one.step, anchors) if one.step else "the run"
    told = [(name, f"{value}"[:2_000]) for name, value in one.facts.items()]
    choice = [value for name, value in told if name == "choice"]
    rest: Sequence[tuple[str, str]] = [pair for pair in told if pair[0] != "choice"]
    arithmetic = table(
        f"Arithmetic of decision {one.number}",
        ["fact", "value"],
        [[el("code", name), value] for name, value in rest],
        aligned="<<",
    )
    return el(
        "article",
        el("h3", title, " ", el("span", f"at {duration(one.at)}", class_="quiet")),
        el("p", one.text),
        [el("p", line, class_="choice") for line in choice],
        details("Arithmetic", arithmetic) if rest else None,
        class_="decision",
        id=f"decision-{one.number}",
    )
