"""The page's only style sheet: quiet, for light and dark, phone and paper. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.page.colours import DARK, LIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping


def style() -> str:
    """Return the style sheet."""
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}"
    # Paper is white, whatever the screen is.
    paper = f"@media print {{ :root {{ {_variables(LIGHT)} }} }}"
    return f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n{dark}\n{paper}\n{_RULES}"


def _variables(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


_RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, nav, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
main { padding-bottom: 2rem; }
footer { padding-top: 1rem; padding-bottom: 3rem; border-top: 1px solid var(--line);
  color: var(--quiet); font-size: .875rem; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h1 { margin: 0; font-size: 2rem; }
h2 { margin: 2.75rem 0 .75rem; font-size: 1.3rem; }
h3 { margin: 1.5rem 0 .4rem; font-size: 1rem; }
p { margin: .4rem 0; }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 2px; }
code, pre { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; }
code, dd, td, q, .name, h1 { unicode-bidi: isolate; }
pre { margin: .5rem 0; padding: .75rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: 6px; white-space: pre-wrap; tab-size: 4; unicode-bidi: plaintext; }
.quiet, .when { color: var(--quiet); font-size: .875rem; font-weight: 400; }
.ok { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.dim { color: var(--quiet); } .bold { font-weight: 600; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .25rem .5rem; }
.ending { font-size: 1.125rem; margin: .25rem 0 1.25rem; }
.badge { display: inline-block; padding: 0 .5em; border: 1px solid currentColor;
  border-radius: 1em; font-size: .8125rem; line-height: 1.45; color: var(--quiet); }
.badge.ok { color: var(--good); } .badge.bad { color: var(--bad); }
.badge.warn { color: var(--warn); }
.figures { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 0 0 1.25rem; padding: 0;
  list-style: none; }
.figures strong { display: block; font-size: 1.375rem; line-height: 1.2; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.figures span { color: var(--quiet); font-size: .875rem; }
.facts { margin: .5rem 0; font-size: .9375rem; }
.facts > div { display: grid; grid-template-columns: 8.5rem 1fr; gap: 0 1rem; padding: .125rem 0; }
dt { color: var(--quiet); } dd { margin: 0; }
nav { margin-top: 1.5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0; padding: .6rem 0;
  list-style: none; border-block: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-size: .9375rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
thead th { color: var(--quiet); font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 500; white-space: nowrap; }
td { min-width: 3rem; } td:last-child:not(.num) { min-width: 9rem; }
td:last-child, th:last-child { padding-right: 0; }
.num { text-align: right; }
.num, .whole { white-space: nowrap; }
.scroll { overflow-x: auto; margin: .5rem 0; }
.scroll td, .scroll th { max-width: 26rem; }
.scroll td code { white-space: nowrap; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--link); }
summary:hover { text-decoration: underline; }
.rung { display: inline-flex; align-items: center; gap: .4em; white-space: nowrap; }
.rung::before { content: ""; width: .6rem; height: .6rem; border-radius: 2px;
  background: var(--command); }
.rung.subagent::before { background: var(--subagent); }
.rung.main::before { background: var(--main); }
.failure { padding: .1rem 1rem .6rem; margin: .75rem 0; background: var(--bad-paper);
  border: 1px solid var(--line); border-left: 4px solid var(--bad); border-radius: 6px; }
.failure h3 { margin-top: .6rem; }
.failure pre { background: var(--paper); }
.remarks > div { padding: .15rem 0; }
.decision, .step { padding: .1rem 0 .6rem; border-bottom: 1px solid var(--line); }
.step:last-of-type, .decision:last-of-type { border-bottom: 0; }
.step:target, .decision:target { background: var(--panel); box-shadow: 0 0 0 .5rem var(--panel); }
.choice { padding-left: .75rem; border-left: 3px solid var(--line); }
.course { margin: .5rem 0; padding: 0; list-style: none; }
.course li { display: grid; grid-template-columns: 3.5rem minmax(0, 1fr); gap: 0 .5rem;
  padding: .25rem 0; }
.course ul li { display: list-item; }
.course .when { text-align: right; padding-top: .1rem; font-variant-numeric: tabular-nums; }
.course p:first-child { margin-top: 0; }
.course > li > div { padding-left: .75rem; border-left: 3px solid transparent; }
.course > .tried > div { border-left-color: var(--line); }
.diff { padding: .5rem 0; }
.diff > * { display: block; padding: 0 .75rem; text-decoration: none; }
.diff ins { background: var(--added); } .diff del { background: var(--removed); }
.diff .file { font-weight: 600; } .diff .head, .diff .hunk { color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .5rem 0; padding: 0;
  list-style: none; color: var(--quiet); font-size: .875rem; }
.legend li { display: flex; align-items: center; gap: .4rem; }
.legend svg { flex: none; }
svg { display: block; overflow: visible; }
svg text { fill: var(--ink); font-size: 13px; font-variant-numeric: tabular-nums; }
.grid line { stroke: var(--line); stroke-width: 1; }
.grid text, .ticks text { fill: var(--quiet); font-size: 12px; }
.row { display: grid; grid-template-columns: minmax(7rem, 13rem) minmax(0, 1fr); gap: 0 1rem;
  align-items: center; }
.row .name { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; font-size: .9375rem; }
.lane rect { fill: var(--command); stroke: var(--command); stroke-width: 1; }
.lane .command:not(.attempt) { fill: var(--ink); stroke: var(--ink); fill-opacity: .75; }
.lane .attempt { fill-opacity: .3; stroke-opacity: .75; }
.lane .subagent { fill: var(--subagent); stroke: var(--subagent); }
.lane .main { fill: var(--main); stroke: var(--main); }
.lane .request { stroke: var(--paper); stroke-width: .5; }
.lane .wait { fill: none; stroke: var(--quiet); stroke-dasharray: 3 2; }
.lane .cut { stroke: var(--bad); stroke-dasharray: 4 2; stroke-opacity: 1; }
.resumed { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 2 3; }
.chart rect.main { fill: var(--main); } .chart rect.subagent { fill: var(--subagent); }
.chart rect.warm { fill: var(--main); fill-opacity: .45; stroke: var(--main); }
.chart rect.estimate { stroke: var(--quiet); }
.chart rect.read { fill: var(--read); } .chart rect.written { stroke: var(--written); }
.chart rect.uncached { fill: none; stroke: var(--uncached); stroke-width: 1.5; }
.estimate-stripe { stroke: var(--quiet); stroke-width: 1.2; }
.written-stripe { stroke: var(--written); stroke-width: 2; }
.figure { font-weight: 600; }
.expected { stroke: var(--ink); stroke-width: 2; stroke-dasharray: 4 2; }
line.break { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 3; }
text.break { fill: var(--bad); font-weight: 700; }
@media (max-width: 40rem) {
  header, nav, main, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.25rem; }
  h1 { font-size: 1.6rem; }
  .facts > div { grid-template-columns: 1fr; padding: .3rem 0; }
  dt { font-size: .8125rem; }
  .row { grid-template-columns: minmax(0, 1fr); padding-top: .35rem; }
  .axis span { display: none; }
  .course li { grid-template-columns: minmax(0, 1fr); }
  .course .when { text-align: left; padding-left: calc(.75rem + 3px); }
  .figures { gap: .75rem 1.75rem; }
  .figures strong { font-size: 1.2rem; }
}
@media print {
  nav, .skip { display: none; }
  svg, .rung::before, .diff ins, .diff del { print-color-adjust: exact; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .scroll { overflow: visible; }
  article, .row, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
