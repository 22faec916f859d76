"""A user's mistake, in one message: what, the value, why, and what to do next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Shown without a traceback; the command exits with code 2 and writes nothing."""


class NoAnswer(Exception):
    """A reply without an answer: the sample is `failed` and in no score, and the cell continues.

    The message says why, and what to set.
    """


class Unsupported(Exception):
    """The model cannot be asked this cell, and the message says why: the cell is `unsupported`, and others are run."""


class MachineError(UserError):
    """A failure of the machine or a server rather than of a cell: a full disk, a key that is refused.

    The run stops, what is there is kept, and the same command goes on once that is mended.
    """


def reason(error: BaseException) -> str:
    """What is wrong, in one line: in the system's words if it has any, else in the library's."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def without_secrets(text: str) -> str:
    """The text, with what may be a secret in the URLs in it hidden: user and password, and the query."""
    hidden = re.sub(r"(?<=://)[^/\s'\"]*@", "[hidden]@", text)
    return re.sub(r"(://[^\s?#'\"]*\?)[^\s#'\"]+", r"\1[hidden]", hidden)


def clip(text: str, limit: int = 200) -> str:
    """The text, or its beginning and the length of the rest: nobody reads 4000 digits in a message."""
    return text if len(text) <= limit else f"{text[:limit]}.. ({len(text)} characters)"


def printable(text: str, ascii_only: bool, keep: str = "") -> str:
    """The text with invisible characters (control, bidi, lone surrogates) as escapes.

    A name may hold codes that would steer the terminal, or turn the direction of what is around it.

    keep  characters that stay as they are
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
    return text.encode("ascii", "backslashreplace").decode() if ascii_only else text


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest known name, else ''."""
    near = difflib.get_close_matches(value, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


@contextmanager
def needs(package: str, *, extra: str = "", to: str, advice: str = "") -> Iterator[None]:
    """Turns the missing import of an optional package into a UserError that says how to install it.

    package  the module that is imported inside the `with`, which is also its name in the registry but for "-" and "_"
    extra    the extra of atlas-bench that brings it; none does where it is empty
    to       what it is needed for, as in "to read from the Hugging Face hub"
    advice   what can be done without it, a sentence
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise  # something else is missing: that is a fault, not the user's choice
        name = package.replace("_", "-")
        checkout = f" (from a checkout: pip install -e '.[{extra}]')" if extra else ""
        raise UserError(
            f"the package {name} is needed to {to}, and is not installed. Type: pip install {name}{checkout}."
            f"{f' {advice}' if advice else ''}"
        ) from None


def unknown(kind: str, value: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a table."""
    known = sorted(known)
    return UserError(f"unknown {kind} '{value}'.{did_you_mean(value, known)} Known: {', '.join(known)}.")
