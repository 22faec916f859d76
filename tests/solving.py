"""A server's wits: it reads the prompt, as a model would, and knows the answer."""

import re


def solve_qa1(prompt: str) -> str:
    """Where the person is whom the last question asks about."""
    who = re.findall(r"Where is (\w+)\?", prompt)[-1]
    return re.findall(rf"\b{who} (?:moved|went|journeyed|travelled)(?: back)? to the (\w+)", prompt)[-1]
