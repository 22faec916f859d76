"""Graph walks: the edges of a random graph fill the context, and nodes a few steps from one are asked for.

    stone -> cloud
    river -> stone
    cloud -> window         [.. 10M tokens of such lines ..]
    Which nodes are at depth 2 of a breadth-first search from river? Nodes:                    -> cloud

The protocol's shape is that of GraphWalks (OpenAI 2025, with GPT-4.1): a list of directed edges, then a breadth-first
search from a node to a depth, of which the nodes at exactly that depth are the answer, or the parents of a node; an
answer is a set, and its F1 is the score. Each further step needs what the step before has found, anywhere in the
context. What differs from GraphWalks:

names     Of one, two or three words of one token each, where GraphWalks has hexadecimal hashes: as many as give four
          names for every node (up to 1K, 512K and 256M tokens).
graph     For every node two edges, their ends drawn evenly; edges may repeat, and lead back to their node. The number
          of nodes grows with the length.
answers   Of 1 to 8 nodes; GraphWalks has larger ones, and empty ones.
prompt    A line of instruction and no worked example. The answer is a list with commas; brackets do not count.
reading   Four questions on one graph, each put to a fork of the state.
length    Exact, in whole lines.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from atlas_bench.tasks.lines.context import Template, chunks, drawn
from atlas_bench.tasks.lines.task import Asked, LineTask
from atlas_bench.tasks.pairs import BITS, POOL, Vocabulary, seed_of, words_of_a_key
from atlas_bench.tasks.ruler.shuffle import permute, round_keys
from atlas_bench.types import Rules, Sample, Scorer, Tokenizer

DEGREE = 2  # edges for every node
LARGEST = 8  # nodes of an answer
QUESTIONS, CANDIDATES = 4, 16  # on a graph; nodes that are tried for them
ANSWER_TOKENS = 64

Edge = tuple[int, int, int]  # line, source, target


def f1(answer: str, sample: Sample) -> float:
    """GraphWalks' F1 of two sets of names: those in the answer's first line, and those of the target."""
    named, wanted = _names(answer), _names(sample.targets[0])
    return 2 * len(named & wanted) / (len(named) + len(wanted))


def exact(answer: str, sample: Sample) -> bool:
    """True if the answer names all nodes of the target and no other."""
    return f1(answer, sample) == 1


def _names(text: str) -> set[str]:
    """The names in a list such as "[stone river, 'cloud']", in lower case."""
    line = text.strip().partition("\n")[0].lower().strip("[]. ")
    return {name for part in line.split(",") if (name := " ".join(part.split()).strip("[]'\". "))}


@dataclass(frozen=True)
class Edges:
    """The Source: line i leads from a random node to another.

    nodes  numbers from 0 on; their names are codes that the seed chooses
    """

    vocabulary: Vocabulary
    line: Template
    nodes: int
    seed: int
    keys: np.ndarray = field(repr=False)

    @property
    def key(self) -> str:
        """A hash of the vocabulary and of everything random."""
        return f"{self.vocabulary.key} {self.nodes} {self.seed}"

    @property
    def name_words(self) -> int:
        """Words of a name."""
        return len(self.line.slots) // 2

    def ends(self, first: int, last: int) -> np.ndarray:
        """Sources and targets of lines first..last - 1, int64 [last - first, 2]."""
        return (drawn(self.seed, first, last)[:, :2] % np.uint64(self.nodes)).astype(np.int64)

    def words(self, first: int, last: int) -> np.ndarray:
        """Token ids [last - first, 2 words of a name]."""
        digits = self._digits(self.ends(first, last).ravel())
        return self.vocabulary.keys.tokens[digits].reshape(last - first, -1)

    def names(self, nodes: Collection[int]) -> dict[int, str]:
        """Node -> the words of its name."""
        named = self._digits(np.array([*nodes], dtype=np.int64)).tolist()
        return {
            node: " ".join(self.vocabulary.keys.words[digit] for digit in digits)
            for node, digits in zip(nodes, named, strict=True)
        }

    def touching(self, nodes: Collection[int], end: int, lines: int) -> list[Edge]:
        """The edges among the first that have one of the nodes as source (end 0) or target (1), by line."""
        wanted, edges = np.array(sorted(nodes), dtype=np.int64), list[Edge]()
        for first, last in chunks(lines):
            ends = self.ends(first, last)
            (hits,) = np.isin(ends[:, end], wanted).nonzero()
            edges += [(first + i, *ends[i].tolist()) for i in hits.tolist()]
        return edges

    def _digits(self, nodes: np.ndarray) -> np.ndarray:
        """Numbers of the words of each name [n, words]; no two nodes have the same."""
        codes = permute(nodes, POOL**self.name_words, self.keys)
        return codes[:, None] >> (BITS * np.arange(self.name_words)) & (POOL - 1)


@dataclass
class Walk:
    """A search that has come so far from its node: all nodes seen, the last of them, and the edges that were used."""

    seen: set[int]
    reached: list[int]
    used: list[int]

    def step(self, edges: Iterable[Edge]) -> None:
        """One depth further, by the edges that leave what has been reached."""
        last, found = set(self.reached), dict[int, None]()
        for line, source, target in edges:
            if source in last:
                self.used.append(line)
                found[target] = None
        self.reached = [node for node in found if node not in self.seen]
        self.seen |= found.keys()


class Graph(LineTask):
    """The task; implements types.Task."""

    name = "graph"
    subsets = ("parents", "bfs-1", "bfs-2", "bfs-3")
    before = "Each line is an edge of a directed graph, from a node to a node.\n"

    def rules(self, subset: str) -> Rules:
        """Chance is the F1 of as many one-word names as an answer holds, always the same, on the largest target."""
        named = ANSWER_TOKENS // 2
        chance = 2 * named * LARGEST / POOL / (named + LARGEST)
        scorers = {"graph/f1": Scorer(f1), "graph/exact": Scorer(exact)}
        return Rules(scorers, chance, max_answer_tokens=ANSWER_TOKENS, questions_per_context=QUESTIONS)

    def line(self, length: int) -> tuple[str | None, ...]:
        """Two names of as many words as the length calls for."""
        name = (None,) * words_of_a_key(max(length // (4 * DEGREE), 1))
        return (*name, " ->", *name, "\n")

    def least_lines(self, subset: str) -> int:
        """A graph with a few walks that are not the same."""
        return 20 * DEGREE

    def source(self, subset: str, tokenizer: Tokenizer, line: Template, lines: int, label: str) -> Edges:
        """A graph of DEGREE edges for every node."""
        nodes = max(lines // DEGREE, 2)
        return Edges(self.words(tokenizer), line, nodes, seed_of(label), round_keys(f"{label} names"))

    def asks(self, subset: str, source: Edges, lines: int, rng: random.Random) -> list[Asked]:
        """About nodes of random edges, all different, where the answer is neither empty nor large."""
        if not lines:
            return []
        back, drawn_lines = subset == "parents", [int(rng.random() * lines) for _ in range(CANDIDATES)]
        starts = [int(source.ends(line, line + 1)[0, int(back)]) for line in drawn_lines]
        walks = {node: Walk({node}, [node], []) for node in starts}
        for _ in range(1 if back else _depth(subset)):
            edges = source.touching({node for walk in walks.values() for node in walk.reached}, int(back), lines)
            for walk in walks.values():
                walk.step((line, b, a) if back else (line, a, b) for line, a, b in edges)
        good = {node: walk for node, walk in walks.items() if 0 < len(walk.reached) <= LARGEST}
        names = source.names(good.keys() | {other for walk in good.values() for other in walk.reached})
        return [self._asked(subset, names, node, walk) for node, walk in good.items()]

    def _asked(self, subset: str, names: Mapping[int, str], node: int, walk: Walk) -> Asked:
        name = names[node]
        text = f"Which nodes are at depth {_depth(subset)} of a breadth-first search from {name}?"
        if subset == "parents":
            text = f"Which nodes are parents of {name}?"
        answer = ", ".join(names[other] for other in walk.reached)
        return Asked(f"\n{text}", " Nodes:", answer, tuple(sorted(walk.used)))

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        return DESCRIPTION.format(largest=LARGEST, questions=QUESTIONS, chance=f"{self.rules('parents').chance:.1%}")


def _depth(subset: str) -> int:
    return int(subset.removeprefix("bfs-")) if subset != "parents" else 1


DESCRIPTION = """\
Graph walks: the edges of a random graph, one a line, and nodes some steps away (the form of GraphWalks, OpenAI 2025).

subsets   parents  the nodes with an edge to a node
          bfs-1    the nodes at depth 1 of a breadth-first search from a node: those it leads to
          bfs-2    those at depth 2, which no shorter path reaches
          bfs-3    those at depth 3
source    nodes of one to three words, single tokens of the model's own tokenizer; two edges for every node
scorers   graph/f1 (version 1)     the F1 of the names in the answer's first line, a list with commas
          graph/exact (version 1)  all of them, and no other
chance    {chance} (as many one-word names as an answer holds, always the same; less in long contexts)
pitfalls  {questions} questions share a graph: use --samples in multiples of it; they are not independent.
          Answers have 1 to {largest} nodes, so whoever names one right node has an F1 of 2/3 where there are two:
          read graph/exact beside it.
          Who has read the names and answers with any of them has more than chance in short contexts.
          Names get longer with the length (512K tokens: two words, then three), which a score over lengths shows too.

stone -> cloud [newline] river -> stone [newline] [...] Which nodes are at depth 2 of a breadth-first search from
river? Nodes: -> cloud"""


GRAPH = Graph()
