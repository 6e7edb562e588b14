"""Writes the figures as people read them: what was measured, then what is estimated. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

from runner.console.style import Line, Span, cells, count, fit, money, pad, paint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runner.measure.figures import Figures, Quartiles, Saving
    from runner.measure.session import Way

    Writer: TypeAlias = Callable[[Decimal], str]

_NAMES = {"claude": "Claude Code", "codex": "Codex"}
_SHOWN_UNREAD = 3
_WAYS: Mapping[Way, str] = {
    "batching": "batching",
    "steps": "steps that the runner starts",
    "delegation": "delegation",
}
_QUARTILES = ("quartile 1", "median", "quartile 3")
_SMALLEST_SHARE = Decimal("0.05")


def render(shown: Figures, *, width: int, color: bool) -> str:
    """Return everything as text of so many columns; without *color* nothing but the text."""
    parts = [_head(shown, width)]
    if shown.sessions:
        parts += [_models(shown, width), _mechanical(shown, width)]
        parts += [_gaps(shown, width), _savings(shown, width)]
    joined: list[Line] = []
    for part in parts:
        joined += [*part, ()]
    return paint(joined[:-1], color=color)


def _head(shown: Figures, width: int) -> list[Line]:
    by_source = Counter(one.source for one in shown.sessions)
    sources = ", ".join(
        f"{number:,} of {_NAMES[name]}" for name, number in sorted(by_source.items())
    )
    looked = shown.looked
    told = (
        f"{_plural(len(shown.sessions), 'session')}: {sources}" if sources else "no request found"
    )
    parts = [told, _span(shown), f"{_plural(looked.files, 'file')}, {_size(looked.bytes)}"]
    lines = _text(", ".join(part for part in parts if part), width, style="bold")
    lines += _text(_left_out(shown), width)
    for one in looked.unread[:_SHOWN_UNREAD]:
        lines.append((Span(fit(f"! not read: {one.why}: {one.path}", width), "warn"),))
    if len(looked.unread) > _SHOWN_UNREAD:
        lines.append((Span(f"! and {len(looked.unread) - _SHOWN_UNREAD} more not read", "warn"),))
    return lines


def _span(shown: Figures) -> str:
    firsts = [one.first for one in shown.sessions if one.first is not None]
    lasts = [one.last for one in shown.sessions if one.last is not None]
    if not firsts or not lasts:
        return ""
    days = [datetime.fromtimestamp(at, UTC).date() for at in (min(firsts), max(lasts))]
    return str(days[0]) if days[0] == days[1] else f"{days[0]} to {days[1]}"


def _left_out(shown: Figures) -> str:
    parts = [f"{number:,} {what}" for what, number in shown.troubles.items()]
    if shown.copies:
        parts.append(f"{shown.copies:,} repetitions of requests in resumed or forked sessions")
    return f"Not counted: {', '.join(parts)}." if parts else ""


def _models(shown: Figures, width: int) -> list[Line]:
    titles = ["model", "turns", "uncached", "read", "written", "output", "cost"]
    rows = [titles]
    for name, model in shown.models.items():
        tokens = model.tokens
        sums = (tokens.uncached, tokens.read, tokens.write_5m + tokens.write_1h, tokens.output)
        cost = model.cost if model.priced == model.turns else None
        rows.append([_model(name), f"{model.turns:,}", *(count(one) for one in sums), _cost(cost)])
    if len(shown.models) > 1:
        tokens = shown.tokens
        sums = (tokens.uncached, tokens.read, tokens.write_5m + tokens.write_1h, tokens.output)
        turns = f"{shown.count('turns'):,}"
        rows.append(["in all", turns, *(count(one) for one in sums), _cost(shown.cost)])
    lines = [_title("Measured: requests and tokens"), *_table(rows, width)]
    return lines + _text(_prices(shown), width, indent=2, style="dim")


def _prices(shown: Figures) -> str:
    asked = shown.asked
    whose = "each served model's own list price"
    if asked.prices:
        whose = f"the list price of {_model(asked.prices)}, whatever was served"
    if asked.main:
        whose = f"main conversations at the list price of {_model(asked.main)}, others at {whose}"
    table = "" if shown.looked.prices is None else f" ({', '.join(shown.looked.prices)})"
    text = f"Cost: {whose}{table}; a subscription bills otherwise."
    if side := shown.count("side_turns"):
        text += f" {side:,} turns were made by subagents."
    if unknown := shown.count("unpriced"):
        text += (
            f" No price is known for {_plural(unknown, 'turn')}: not in any sum of money; "
            "sessions with one are left out of its quartiles."
        )
    if fast := shown.count("fast"):
        text += f" {fast:,} turns used a faster service and cost more than shown."
    return text


def _mechanical(shown: Figures, width: int) -> list[Line]:
    turns, mechanical = shown.count("turns"), shown.count("mechanical")
    share = Decimal(100) * mechanical / turns if turns else None
    cost_share = None
    if shown.cost and shown.mechanical_usd is not None:
        cost_share = Decimal(100) * shown.mechanical_usd / shown.cost
    runs = sum(shown.runs.values())
    longest = max(shown.runs, default=0)
    rows = [
        ["", "in all", "", *_QUARTILES],
        ["turns", f"{mechanical:,}", _share(share), *_three(shown.turn_share, _share)],
        ["cost", _cost(shown.mechanical_usd), _share(cost_share),
         *_three(shown.cost_share, _share)],
        ["run length", _plural(runs, "run"), f"up to {longest}" if runs else "",
         *_three(shown.run_length, _length)],
    ]  # fmt: skip
    lines = [_title("Measured: mechanical turns"), *_table(rows, width)]
    words = (
        "Mechanical: all of a turn's tool calls only format, lint, check types, test, build, or "
        "are git add, commit, fetch, pull, push or status. Quartiles of turns and cost are over "
        "sessions, of lengths over runs of consecutive mechanical turns."
    )
    return lines + _text(f"{_commands(shown)}{words}", width, indent=2, style="dim")


def _commands(shown: Figures) -> str:
    commands: Counter[str] = Counter()
    for one in shown.sessions:
        commands.update(one.commands)
    if not commands:
        return ""
    told = ", ".join(f"{name} {number:,}" for name, number in commands.most_common())
    passed, failed = shown.count("passed"), shown.count("failed")
    unknown = shown.count("mechanical") - passed - failed
    results = f"{passed:,} turns passed, {failed:,} failed, {unknown:,} do not tell"
    return f"Commands: {told}. By exit code {results} (a pipe hides it). "


def _gaps(shown: Figures, width: int) -> list[Line]:
    names = {0: "up to 5 min", 300: "over 5 min", 3600: "over 1 h, of these"}
    rows = [["gap", "gaps", "caches lost", "tokens written again", "cost over reading"]]
    for length, gap in shown.gaps.items():
        cost = _cost(gap.usd if shown.cost is not None else None)
        rows.append([names[length], f"{gap.count:,}", f"{gap.lost:,}", count(gap.tokens), cost])
    lines = [_title("Measured: gaps between requests, and caches lost"), *_table(rows, width)]
    words = (
        "A cache is lost where 1,024 tokens or more of the prompt before were not read again; "
        "after a short gap because model, tools or earlier messages changed, or the provider "
        "dropped it. A compaction is no loss."
    )
    return lines + _text(words, width, indent=2, style="dim")


def _savings(shown: Figures, width: int) -> list[Line]:
    lines = [_title("Estimated: what would have been saved, each by itself (they overlap)")]
    rows = [["", "in all", *_QUARTILES]]
    for way, saving in shown.savings.items():
        rows += _saving_rows(_WAYS[way], saving)
    lines += _table(rows, width)
    for way in shown.savings:
        measured, assumed = _reasons(way, shown)
        lines += _text(f"{_WAYS[way].capitalize()}", width, indent=2)
        lines += _text(f"measured: {measured}", width, indent=4, style="dim")
        lines += _text(f"assumed: {assumed}", width, indent=4, style="dim")
    return lines


def _saving_rows(name: str, saving: Saving | None) -> list[list[str]]:
    if saving is None:
        return [[name, "unknown", "", "", ""]]
    return [
        [name, _cost(saving.usd), *_three(saving.session_usd, _cost)],
        ["", _share(saving.share), *_three(saving.session_share, _share)],
    ]


def _reasons(way: Way, shown: Figures) -> tuple[str, str]:
    """Return what is measured and what is assumed of an estimate."""
    helper = shown.asked.helper
    match way:
        case "batching":
            return (
                f"{_plural(shown.count('batched'), 'mechanical turn')} directly behind one that "
                "passed; what they read from the cache.",
                "their commands would have stood in the turn before; same output, same results.",
            )
        case "steps":
            return (
                f"{_plural(shown.count('left_out'), 'mechanical turn')} whose commands all passed; "
                "what they read and wrote, the tokens that they put into the conversation, and "
                "each later reading of those.",
                "the runner runs the same commands unasked; of one that passes the model need "
                "not hear. Turns that failed or do not tell are not credited.",
            )
        case "delegation":
            models = " or ".join(_model(one) for one in shown.cheap) or "a cheap model"
            runs, paid = shown.count("delegated"), shown.count("paid")
            without = shown.count("undelegated")
            left = f" No price is known for {_plural(without, 'run')} more." if without else ""
            return (
                f"{_plural(runs, 'run')} of mechanical turns in main conversations; what they "
                f"paid, and later readings. Delegating paid by itself in {paid:,}, all are "
                f"counted.{left}",
                f"{models} does each in {helper.more_turns} times the turns, as long as it took, "
                f"counting tokens alike; {_share(helper.fails * 100)} fail and are done "
                f"again by the main model, subtracted; brief {helper.brief}, answer "
                f"{helper.answer}, helper's start {helper.fixed + helper.task:,} tokens, "
                "never taken for cached; the main's cache is written anew after runs longer "
                "than its retention.",
            )


def _title(text: str) -> Line:
    return (Span(text, "bold"),)


def _text(text: str, width: int, *, indent: int = 0, style: str = "") -> list[Line]:
    blank = " " * indent
    hanging = blank + ("  " if indent > 2 else "")
    lines = wrap(text, min(width, 110), initial_indent=blank, subsequent_indent=hanging)
    if style == "bold":
        return [(Span(line, "bold"),) for line in lines]
    return [(Span(line, "dim" if style else ""),) for line in lines]


def _table(rows: Sequence[Sequence[str]], width: int) -> list[Line]:
    """Return rows as lines: the first column on the left, the others on the right."""
    columns = range(len(rows[0]))
    widths = [max(cells(row[column]) for row in rows) for column in columns]
    free = width - 2 - sum(widths)
    gap = " " * max(1, min(4, free // max(1, len(widths) - 1)))
    lines: list[Line] = []
    for number, row in enumerate(rows):
        first = pad(row[0], widths[0])
        rest = [" " * (widths[c] - cells(row[c])) + row[c] for c in columns if c]
        text = "  " + gap.join([first, *rest])
        lines.append((Span(text, "dim" if number == 0 else ""),))
    return lines


def _three(found: Quartiles | None, write: Writer) -> Iterable[str]:
    if found is None:
        return ("-", "-", "-")
    return (write(found.low), write(found.middle), write(found.high))


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _share(value: Decimal | None) -> str:
    if value is None:
        return "-"
    if value and abs(value) < _SMALLEST_SHARE:
        return "<0.1 %" if value > 0 else "-0.0 %"
    return f"{value:.1f} %" if value else "0 %"


def _length(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _cost(usd: Decimal | None) -> str:
    if usd is None:
        return "unknown"
    if usd < 0:
        return f"-{money(-usd)}"
    return f"${usd:,.2f}" if usd >= 1 else money(usd)


def _model(name: str) -> str:
    provider, _, model = name.partition(":")
    return model if provider in {"anthropic", "openai", "unlisted"} else name


def _size(number: int) -> str:
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
