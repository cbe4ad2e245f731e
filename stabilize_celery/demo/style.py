"""The report's style sheet: light and dark, wide and narrow, also on paper."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #66707f; --page: #f5f6f8; --card: #fff; --line: #e3e7ec;
  --main: #4f7cd6; --part: #1f3f86; --b0: #58a67a; --b1: #9bbf4f; --b2: #e2b53c; --b3: #e08040; --b4: #c9434a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #98a2b1; --page: #14181e; --card: #1c222b;
  --line: #2c343f; --main: #5c8ae0; --part: #a9c4fa; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 17px; margin: 0 0 12px; } code { overflow-wrap: anywhere; }
header p { color: var(--soft); margin: 4px 0 24px; }
section { margin-bottom: 24px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; }
.tiles div, figure, .tables > div, section:not([class]) { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 18px; }
.tiles b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; } .tiles span { color: var(--soft); }
.charts, .tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(500px, 100%), 1fr)); gap: 16px; }
figure { margin: 0; } figcaption { font-weight: 600; font-size: 17px; margin-bottom: 12px; }
figcaption small { display: block; font-weight: 400; color: var(--soft); }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12px; fill: var(--ink); }
svg .soft { fill: var(--soft); } svg rect { fill: var(--main); } svg .part { fill: var(--part); }
svg line { stroke: var(--line); } svg circle { fill: var(--main); fill-opacity: .55; stroke: var(--main); }
.band0 rect { fill: var(--b0); } .band1 rect { fill: var(--b1); } .band2 rect { fill: var(--b2); }
.band3 rect { fill: var(--b3); } .band4 rect { fill: var(--b4); }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th { text-align: left; color: var(--soft); font-weight: 500; }
td, th { padding: 5px 8px 5px 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; vertical-align: top; }
.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
summary { cursor: pointer; font-weight: 600; }
@media print { body { background: none; } figure, .tables > div { break-inside: avoid; } }
"""
