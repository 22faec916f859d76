r"""What is an answer: one rule for models that run here (`hf:`) and for those behind an endpoint (`openai:`).

    answer("\n\ngarden\nMary went", stop=("\n",))                      # "garden": leading blanks never end an answer
    answer("<think>\nHm.\n</think>\n\ngarden</s>", stop=("\n",))       # "garden"
    answer("<think>\nHm, where", stop=("\n",), cut=True)              # NoAnswer: .. thinking=4096 ..

The steps, in this order: remove thoughts, end the text before the first end mark, remove leading whitespace, end the
text before the first stop text. If the answer is not certain, this raises NoAnswer: the sample is `failed` and in no
score. docs/models.md has a table of all kinds of replies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from atlas_bench.errors import NoAnswer

VERSION = "1"  # raised when another text may be the answer in a reply: part of a cell's identity
ROOM = 4096  # tokens to suggest for thoughts
LEAST_ECHO = 40  # characters: an answer may begin like a shorter prompt by chance

# How models mark their thoughts: (what opens them, what closes them), as regular expressions
THOUGHTS = (
    (r"<(?:\w+:)?think(?:ing)?>", r"</(?:\w+:)?think(?:ing)?>"),  # DeepSeek R1, Qwen 3, GLM, <seed:think>, <mm:think>
    (r"<thought>", r"</thought>"),
    (r"<reasoning>", r"</reasoning>"),
    (r"\[THINK\]", r"\[/THINK\]"),  # Mistral
    (r"◁think▷", r"◁/think▷"),  # Kimi
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker, Sky-T1
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma 4
    (r"<\|channel\|>(?:analysis|commentary)", r"<\|channel\|>final.{0,80}?<\|message\|>"),  # gpt-oss
    (r"\Aanalysis(?=[A-Z])", r"assistantfinal"),  # gpt-oss, where the server has left its special tokens out
    (r"\A\s*Here(?:'s| is) my thought process:", r"Here(?:'s| is) my response:"),  # Granite 3.2
)
_THOUGHT_MARK = re.compile(
    f"(?P<open>{'|'.join(opens for opens, _ in THOUGHTS)})|(?P<close>{'|'.join(closes for _, closes in THOUGHTS)})"
)

# What ends a model's turn, for servers and templates that leave it in the text
END_MARKS = (
    *("</s>", "<eos>", "<|eos|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"),
    *("<|im_end|>", "<|end_of_turn|>", "<end_of_turn>", "<turn|>", "<|END_OF_TURN_TOKEN|>", "<|return|>", "<|call|>"),
    *("<|endofturn|>", "<|assistant_end|>", "<|user|>", "<|observation|>", "<｜end▁of▁sentence｜>"),
)
_END_MARK = re.compile("|".join(map(re.escape, END_MARKS)))

# What stands around an answer that follows thoughts
_AROUND = re.compile(r"</?answer>|<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>")


class Reading(NamedTuple):
    """What a reply says so far.

    text      the answer, without whitespace around it
    ended     whether an end mark or a stop text has ended it: whatever follows changes nothing
    thinking  whether what follows is thought, until its closing mark
    thought   whether there were any thoughts
    """

    text: str
    ended: bool
    thinking: bool
    thought: bool


def read(
    reply: str, *, stop: Sequence[str] = (), opened: bool = False, special: re.Pattern[str] | None = None
) -> Reading:
    """What a reply says, which may be complete or not.

    reply    the model's text, special tokens included
    stop     texts before which an answer ends
    opened   whether the prompt ends with an opening mark, so that the reply begins within the thoughts
    special  matches tokens that are no part of an answer
    """
    text, thinking, thought = _without_thoughts(reply, opened)
    mark = _END_MARK.search(text)
    text = text[: mark.start()] if mark else text
    text = special.sub("", text) if special else text
    text = _AROUND.sub("", text).lstrip()
    end = min((at for at in map(text.find, filter(None, stop)) if at >= 0), default=len(text))
    ended = bool(mark) or end < len(text)
    return Reading(text[:end].rstrip(), ended, thinking and not ended, thought)


def answer(
    reply: str,
    *,
    stop: Sequence[str] = (),
    cut: bool = False,
    opened: bool = False,
    thinking: int = 0,
    special: re.Pattern[str] | None = None,
) -> str:
    """The answer in a complete reply; arguments as for read().

    cut       whether the reply ends because its tokens ran out
    thinking  tokens that the model was given for its thoughts

    Raises NoAnswer if the reply ends within the thoughts, or right after them. A model that was given room for its
    thoughts, and ends its turn after them, has given an empty answer.
    """
    text, ended, in_thoughts, thought = read(reply, stop=stop, opened=opened, special=special)
    if in_thoughts:
        raise NoAnswer(f"the reply ends within the model's thoughts. {more_room(thinking)}")
    if text or ended:
        return text
    if cut and (thought or not reply):
        raise NoAnswer(f"the tokens ran out before the answer began. {more_room(thinking)}")
    if thought and not thinking:
        raise NoAnswer(f"nothing follows the model's thoughts. {more_room(thinking)}")
    return ""


def more_room(thinking: int) -> str:
    """The option to set if thoughts leave no room for the answer."""
    return f"A model that thinks needs room for it: set thinking={max(ROOM, 2 * thinking)} after its name."


def opens_thoughts(text: str) -> bool:
    """Whether a prompt ends within an opening mark's thoughts, as some chat templates make it do."""
    marks = list(_THOUGHT_MARK.finditer(text))
    return bool(marks) and marks[-1].lastgroup == "open"


def without_echo(reply: str, prompt: str) -> str:
    """The reply without the prompt before it, which some servers give back.

    Raises NoAnswer if the reply is the prompt, or the beginning of it, and nothing else.
    """
    text, sent = reply.strip(), prompt.strip()
    if len(sent) < LEAST_ECHO:
        return reply
    if text.startswith(sent) and len(text) > len(sent):
        return text[len(sent) :]
    if len(text) >= LEAST_ECHO and sent.startswith(text):
        raise NoAnswer("the reply repeats the prompt and says nothing else. Switch the server's echo off.")
    return reply


def sendable(stop: Sequence[str]) -> list[str]:
    """The stop texts that a server may apply: one that begins with whitespace would end a reply before it begins."""
    return [text for text in stop if text and not text[0].isspace()]


def _without_thoughts(reply: str, opened: bool) -> tuple[str, bool, bool]:
    """(the reply without its thoughts, whether it ends within them, whether there were any)."""
    parts: list[str] = []
    at, thinking, thought = 0, opened, opened
    for mark in _THOUGHT_MARK.finditer(reply):
        thought = True
        if mark.lastgroup == "open":
            if not thinking:
                parts.append(reply[at : mark.start()])
            thinking = True
        else:
            if not thinking:  # the prompt has opened them: all that came before is thought
                parts.clear()
            at, thinking = mark.end(), False
    return "".join([*parts, *([] if thinking else [reply[at:]])]), thinking, thought
