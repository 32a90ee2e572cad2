"""The look of the page: one style sheet, light and dark, from a phone to a wide screen."""

CSS = """
:root { color-scheme: light dark; --ground: #fbfbf9; --panel: #ffffff; --ink: #1c2026; --faint: #5b6470;
  --line: #dcdfe4; --accent: #1f6fb2; --warn-ground: #fff4dc; --warn-ink: #6a4a00; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --panel: #1b2027; --ink: #e7eaef;
  --faint: #a3acb9; --line: #323944; --accent: #7db9ec; --warn-ground: #3a2f14; --warn-ink: #f4d894; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, ul { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
.faint, figcaption { color: var(--faint); font-size: .875rem; }
.warning { background: var(--warn-ground); color: var(--warn-ink); border-radius: 6px; padding: .6rem .9rem;
  max-width: none; }
.scroll { overflow-x: auto; max-width: 100%; background: var(--panel); border: 1px solid var(--line);
  border-radius: 8px; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .8rem; text-align: right; white-space: nowrap; font-weight: 400; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--faint); font-size: .8125rem; border-bottom: 1px solid var(--line); }
tbody tr + tr > * { border-top: 1px solid var(--line); }
thead th { white-space: normal; vertical-align: bottom; }
.wide th, .wide td { padding: .25rem .28rem; font-size: .75rem; }
.wide th:first-child, .wide .name { white-space: normal; }
.wide thead th:not(:first-child, .name) { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  white-space: nowrap; }
td small { display: block; color: var(--faint); font-weight: 400; }
.best { font-weight: 700; }
.name { text-align: left; } .quoted > * { color: var(--faint); }
th:first-child { position: sticky; left: 0; background: var(--panel); }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em;
  outline: 1px solid rgb(128 128 128 / .5); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; max-width: none;
  font-size: .875rem; }
.slices { display: grid; grid-template-columns: repeat(var(--columns), minmax(112px, 320px)); gap: 4px;
  padding: 10px; width: fit-content; min-width: 100%; background: #14171c; color: #d5dae2; }
.slices img { width: 100%; display: block; image-rendering: pixelated; background: #000; }
.slices span { text-align: center; font-size: .8125rem; }
.slices .of { grid-column: 1 / -1; text-align: left; color: #a9b1bf; padding: 2px 0 10px; }
.scale { display: flex; align-items: center; gap: .5rem; font-size: .875rem; margin: .5rem 0; flex-wrap: wrap; }
.scale img { width: 200px; height: 12px; image-rendering: auto; border-radius: 2px; }
figure { margin: .75rem 0; }
figure svg { width: 100%; max-width: 800px; min-width: 620px; height: auto; display: block; padding: .5rem;
  font-family: inherit; }
figure .sheet { display: block; max-width: 100%; min-width: 400px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0; font-size: .9rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin: .75rem 0; } summary { cursor: pointer; color: var(--accent); }
a { color: var(--accent); }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .9em; }
@media (max-width: 520px) { .slices { grid-template-columns: repeat(var(--columns), minmax(80px, 320px));
  padding: 6px; overflow-wrap: anywhere; } th, td { padding: .35rem .3rem; font-size: .8125rem; }
  td small { font-size: .75rem; } ul { padding-left: 1.2rem; }
  th:first-child { white-space: normal; min-width: 6.5rem; font-size: .8125rem; line-height: 1.35; }
  main { padding: 1.25rem .9rem 3rem; } h1 { font-size: 1.4rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { @page { margin: 12mm; }
  :root { color-scheme: light; --ground: #fff; --panel: #fff; --ink: #000; --faint: #444; --line: #bbb;
    --accent: #000; --warn-ground: #fff; --warn-ink: #000; }
  body { font-size: 10pt; } main { max-width: none; padding: 0; } h2 { margin-top: 1.5rem; }
  .scroll { overflow: visible; border: 0; } figure svg { min-width: 0; } .warning { border: 1px solid #000; }
  h2, h3, summary { break-after: avoid; } tr, figure, img, .of { break-inside: avoid; }
  .slices, .slices .of { background: #fff; color: #000; grid-template-columns: repeat(var(--columns), 1fr); }
  th, td { padding: .15rem .3rem; font-size: 8pt; } .wide th, .wide td { padding: .1rem; font-size: 5.5pt; }
  .slices img, .swatch, .scale img { print-color-adjust: exact; } }
"""
