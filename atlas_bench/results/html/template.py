"""Templates -> one HTML file, in which all text is escaped and control characters stand as escapes.

    render("leaderboard.html.j2", script="leaderboard.js", title="Our memory", ..)
    {{ model | foreign }}        in a template: <bdi>my\\u202emodel</bdi>, cut where it is long

A template extends base.html.j2 and fills its blocks `title`, `style` (more CSS) and `main`. A page has at most one
script, ours, whose hash is in the page's content security policy: nothing else runs, and nothing is requested.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from atlas_bench.errors import printable
from atlas_bench.results.record import clip
from atlas_bench.units import counted, format_bytes, format_count, format_length

TEXT_CHARS = 300  # of a foreign text, where a template asks for no other number

_HERE = Path(__file__).parent
TEMPLATES = _HERE / "templates"


def render(template: str, *, script: str | None = None, folder: Path = TEMPLATES, **context: Any) -> str:
    """The HTML of one template, always encodable as UTF-8.

    script   file beside this one that the page runs; None: nothing runs
    folder   of the template, which may extend and import those of templates/ here too
    context  its variables; a missing one raises jinja2.UndefinedError
    """
    loaded = None if script is None else _script(script)
    return _environment(folder).get_template(template).render(script=loaded, **context)


def clean(text: str) -> str:
    """The text with invisible characters (control, bidi, lone surrogates) as escapes; newlines and tabs stay."""
    return printable(text, False, keep="\n\t")


def foreign(text: Any, limit: int = TEXT_CHARS) -> Markup:
    """A text from a record as HTML: cut, cleaned, escaped, and isolated from the direction of the text around it."""
    return Markup("<bdi>{}</bdi>").format(clean(clip(str(text), limit)))


@cache
def _script(file: str) -> dict[str, str]:
    """The text of a script, and its hash for the page's policy: 'sha256-..'."""
    text = (_HERE / file).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "hash": f"sha256-{digest}"}


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.globals["css"] = Markup((_HERE / "style.css").read_text(encoding="utf-8"))
    environment.filters |= {
        "foreign": foreign,
        "tokens": format_length,
        "bytes": format_bytes,
        "clipped": clip,
        "tally": format_count,
        "counted": counted,
    }
    return environment
