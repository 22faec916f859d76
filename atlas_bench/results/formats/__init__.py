"""The forms of a report: text, Markdown, LaTeX, and data (CSV and JSON)."""
