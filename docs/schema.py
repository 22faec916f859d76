"""`Record` -> its JSON Schema, docs/record.schema.json, and the tables of docs/record.md.

    python -m docs.schema        # writes both files again

A comment before a table of the page names its fields: `<!-- Record: schema to protocol -->`, `<!-- Score -->`.
Record.from_json() checks two rules more: no score has more right answers than answers, and 1.0 is no integer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atlas_bench.results.record import SCHEMA, json_schema

DOCS = Path(__file__).parent
_TABLE = re.compile(r"(<!-- (\w+)(?:: (\w+) to (\w+))? -->\n\n\| field .*\n.*\n)(?:\|.*\n)*")


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one line of a record file."""
    made = _untitled(json_schema())
    made["properties"].pop("extra")
    made["properties"]["schema"]["const"] = SCHEMA
    whole: dict[str, Any] = made | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A record of atlas-bench, schema {SCHEMA}",
        "description": "One line of a results file. Fields that are not named here are kept. See record.md.",
        "required": ["schema", *made["required"]],
        "additionalProperties": True,
    }
    return whole


def with_tables(text: str) -> str:
    """The text of docs/record.md with new tables."""
    made = json_schema()
    models = {"Record": made["properties"], **{name: node["properties"] for name, node in made["$defs"].items()}}

    def rows(found: re.Match[str]) -> str:
        fields = models[found[2]]
        names = list(fields)
        first, last = (found[3] or names[0], found[4] or names[-1])
        chosen = names[names.index(first) : names.index(last) + 1]
        return found[1] + "".join(
            f"| `{name}` | {fields[name]['unit']} | {fields[name]['description']} |\n" for name in chosen
        )

    return _TABLE.sub(rows, text)


def files() -> dict[Path, Callable[[], str]]:
    """File of docs/ -> function that makes its text."""
    page = DOCS / "record.md"
    return {
        page: lambda: with_tables(page.read_text(encoding="utf-8")),
        DOCS / "record.schema.json": lambda: json.dumps(schema(), indent=2) + "\n",
    }


def _untitled(node: Any) -> Any:
    """A schema without the titles, which pydantic makes from names."""
    if isinstance(node, list):
        return [_untitled(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {name: _untitled(item) for name, item in node.items() if name != "title" or not isinstance(item, str)}


def main() -> None:
    """Write the files."""
    for file, made in files().items():
        file.write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
