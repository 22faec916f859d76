"""A board in the forms of a report, a module each: text, markdown, latex, data (CSV and JSON)."""
