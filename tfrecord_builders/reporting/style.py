"""The stylesheet of the report's page."""

from tfrecord_builders.reporting import charts

CSS = (
    """
:root { --ink: #1c2430; --soft: #5d6b7e; --line: #dfe4ea; --paper: #fff;
  --ground: #f4f6f8; --accent: #2f6fb2; --mask: #d8e8fa; --random: #fbdccb;
  --kept: #dcefd8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5eaf0; --soft: #9aa8ba; --line: #344152; --paper: #1c2530;
  --ground: #121920; --accent: #6ea8e0; --mask: #23425f; --random: #5c3322;
  --kept: #2a4a2b } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.55 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere }
h2 { font-size: 1.05rem; margin: 0 0 .8rem }
section { background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; padding: 1.2rem 1.4rem; margin-top: 1rem }
h3 { font-size: .9rem; font-weight: 600; color: var(--soft); margin: 0 0 .4rem }
section p { margin: .8rem 0 0 }
.charts { display: grid; gap: 1.2rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)) }
.source { overflow-wrap: anywhere; font-size: .9rem }
.source + .source { margin-top: .9rem }
.source svg { margin: .25rem 0 }
.tiles { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)) }
.tiles div { background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; padding: .8rem 1rem; color: var(--soft);
  font-size: .85rem }
.tiles b { display: block; font-size: 1.35rem; color: var(--ink) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .6rem;
  border-bottom: 1px solid var(--line); vertical-align: top }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere }
th { color: var(--soft); font-weight: 600 }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem;
  font-size: .9rem }
small { display: block; color: var(--soft); overflow-wrap: anywhere }
span.mask, span.random, span.kept { border-radius: 4px; padding: 0 .25em }
.mask { background: var(--mask) } .random { background: var(--random) }
.kept { background: var(--kept) } .special { color: var(--soft) }
span b { margin-left: .35em; font-weight: 600 }
section p + p { border-top: 1px solid var(--line); padding-top: .8rem }
"""
    + charts.STYLE
)
