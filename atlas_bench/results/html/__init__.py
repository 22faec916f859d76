"""Leaderboards and answers as self-contained HTML: a page requests nothing, and escapes all text of records.

html = leaderboard(board, published=True, command="atlas-bench report results -o page.html")
Path("page.html").write_text(html, encoding="utf-8")

Each page has one script of ours, which sorts and filters; without it the page shows everything.
"""

from atlas_bench.results.html.build import leaderboard
from atlas_bench.results.html.template import clean

__all__ = ["clean", "leaderboard"]
