"""Boards, answers and comparisons as self-contained HTML: no request, and nothing that a record says is obeyed.

Leaderboards and answers have one script of ours, by which they are sorted and filtered; they are whole without it.

html = leaderboard(board, published=True, command="atlas-bench report results -o page.html")
Path("page.html").write_text(html, encoding="utf-8")
"""

from atlas_bench.results.html.build import leaderboard
from atlas_bench.results.html.template import clean, foreign, render

__all__ = ["clean", "foreign", "leaderboard", "render"]
