"""The lazy streams of `track`: the symbol at each place, and the answer there.

    stream = GroupWord(words, 10_000_000, "a label", group="s5")
    stream.read(9_000_000, 9_004_096)            # int32 tokens, O(range) memory
    stream.answers(9_000_000, 9_004_096)         # number of the right answer at each of these tokens

No place needs the stream before it to be replayed. Of a group, the states are drawn and the symbols follow from them;
the height of a stack takes one sum per block; strings are a plan of some hundred sizes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import combinations, pairwise, permutations

import numpy as np

from atlas_bench.tasks.pairs import Vocabulary, seed_of

NONE = -1  # in place of an answer where nothing is asked
BLOCK = 4096  # steps of a stack's walk to a sum
PIECE = 1 << 14  # tokens made at once, in int64
PER_STEP = 8  # numbers of 32 bits that one step of Philox's counter gives
NEAR_END = 256  # tokens at the end of a part of the stream, among which its question is chosen
LEAST_STRINGS = 16  # halves of the largest strings, in a stream


class TaggedStream:
    """Base: a Context with an answer at its tokens, which depends on what has been read by then.

    label  decides all that is random in it
    rule   what else decides its tokens, as text
    """

    rule = ""

    def __init__(self, words: Vocabulary, length: int, label: str) -> None:
        self.words, self.length, self.label, self.seed = words, length, label, seed_of(label)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as int32, cut at the ends of the stream."""
        start, stop = max(start, 0), min(stop, self.length)
        out = np.empty(max(stop - start, 0), dtype=np.int32)
        for at in range(start, stop, PIECE):
            piece = slice(at - start, min(at + PIECE, stop) - start)
            out[piece] = self.words.keys.tokens[self.symbols(at, min(at + PIECE, stop))]
        return out

    def symbols(self, start: int, stop: int) -> np.ndarray:
        """Numbers of the symbols in the places [start, stop)."""
        raise NotImplementedError

    def answers(self, start: int, stop: int) -> np.ndarray:
        """Numbers of the answers in the places [start, stop), when the symbol there has been read; NONE for none."""
        raise NotImplementedError

    def scored(self, start: int, stop: int) -> np.ndarray:
        """Whether the answer in each place takes more than its own symbol and a good guess; bool."""
        return np.ones(stop - start, dtype=bool)

    def changes(self, start: int, stop: int) -> np.ndarray:
        """Whether the symbol in each place changes what later answers are; bool."""
        return np.ones(stop - start, dtype=bool)

    def needs(self, place: int) -> int:
        """The oldest place on which the answer in this one depends."""
        return 0

    def choose(self, count: int) -> list[int]:
        """Places to ask in, rising: the last scored one in each of `count` equal parts of the stream."""
        ends = [self.length * i // count for i in range(count + 1)]
        return [self._last(max(start, stop - NEAR_END), stop) for start, stop in pairwise(ends)]

    def _last(self, start: int, stop: int) -> int:
        known = self.answers(start, stop) != NONE
        scored = known & self.scored(start, stop)
        return start + int(np.flatnonzero(scored if scored.any() else known)[-1])

    def facts(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(place, token) of every token: each changes the state."""
        for start in range(0, self.length, BLOCK):
            for place, token in enumerate(self.read(start, start + BLOCK).tolist(), start=start):
                yield place, (token,)

    def digest(self) -> str:
        """sha256 of the plan: equal digests mean equal tokens."""
        plan = f"{type(self).__name__} {self.words.key} {self.length} {self.label};{self.rule}"
        return hashlib.sha256(plan.encode()).hexdigest()


class GroupWord(TaggedStream):
    """Random elements of a finite group; the answer is their product so far.

    The states s_t are drawn, each element equally likely, and the t-th symbol is the x_t with s_t = s_(t-1) x_t, where
    s_0 is the identity. The symbols are then independent and uniform too, as they are in the word problem.

    group  a name of quotients(): "z5", "s5" or "a5"
    """

    def __init__(self, words: Vocabulary, length: int, label: str, *, group: str) -> None:
        super().__init__(words, length, label)
        self.group = self.rule = group

    def symbols(self, start: int, stop: int) -> np.ndarray:
        """x_t = s_(t-1)^-1 s_t."""
        states = self.answers(start - 1, stop) if start else np.append(0, self.answers(0, stop))
        return quotients(self.group)[states[:-1], states[1:]]

    def changes(self, start: int, stop: int) -> np.ndarray:
        """All but the identity."""
        return self.symbols(start, stop) != 0

    def answers(self, start: int, stop: int) -> np.ndarray:
        """s_t."""
        return drawn(self.seed, start, stop, len(quotients(self.group)))


class Stack(TaggedStream):
    """Pushes of one of some kinds, and pops; the answer is the kind on top of the stack, none where it is empty.

    A push and a pop are equally likely, but for an empty stack, which is pushed to, and a full one, which is popped.
    The height is a free random walk folded into 0..depth, so that one sum per block gives it in any place.
    The symbols are a push for each kind, then a pop for each kind.

    shown  whether a pop shows the kind, as a closing bracket does; else all pops are one symbol
    """

    def __init__(self, words: Vocabulary, length: int, label: str, *, kinds: int, depth: int, shown: bool) -> None:
        super().__init__(words, length, label)
        self.kinds, self.depth, self.shown, self.rule = kinds, depth, shown, f"{kinds} {depth} {shown}"
        self.kind_seed = seed_of(f"{label} kinds")

    def symbols(self, start: int, stop: int) -> np.ndarray:
        """The kinds pushed; after the pushes the kinds popped, or the first kind for all."""
        heights = self.heights(start, stop)
        if not self.shown:
            popped = np.zeros(stop - start, dtype=np.int64)
        else:
            popped = self.answers(start - 1, stop - 1) if start else np.append(NONE, self.answers(0, stop - 1))
        pushed = drawn(self.kind_seed, start, stop, self.kinds)
        return np.where(heights[1:] > heights[:-1], pushed, self.kinds + popped)

    def answers(self, start: int, stop: int) -> np.ndarray:
        """The kind on top."""
        tops = self.tops(start, stop)
        filled = tops != NONE
        if not filled.any():
            return tops
        first = int(tops[filled].min())
        kinds = drawn(self.kind_seed, first, stop, self.kinds)
        return np.where(filled, kinds[np.maximum(tops - first, 0)], NONE)

    def scored(self, start: int, stop: int) -> np.ndarray:
        """After a pop: after a push the answer is what was pushed."""
        heights = self.heights(start, stop)
        return heights[1:] < heights[:-1]

    def needs(self, place: int) -> int:
        """The push of what is on top."""
        return int(self.tops(place, place + 1)[0])

    def heights(self, start: int, stop: int) -> np.ndarray:
        """How much is on the stack before place `start` and after each of [start, stop): int64 [stop - start + 1]."""
        block = start // BLOCK
        steps = 2 * drawn(self.seed, block * BLOCK, stop, 2) - 1
        walk = self._sums[block] + np.append(0, np.cumsum(steps))[start - block * BLOCK :]
        return self.depth - np.abs(walk % (2 * self.depth) - self.depth)

    def tops(self, start: int, stop: int) -> np.ndarray:
        """The place at which the top of the stack after each place was pushed, NONE for an empty stack."""
        back = 4 * self.depth**2  # the walk seldom takes longer to come back to a height
        while True:
            begin = max(start - back, 0)
            heights = self.heights(begin, stop)
            tops = _last_rise(heights)
            found, after = tops[start - begin :], heights[start - begin + 1 :]
            if begin == 0 or (found[after > 0] != NONE).all():
                return np.where(found == NONE, NONE, begin + found)
            back *= 4

    @cached_property
    def _sums(self) -> np.ndarray:
        """The free walk at the beginning of each block, modulo its period."""
        sums = [2 * drawn(self.seed, at, at + BLOCK, 2).sum() - BLOCK for at in range(0, self.length, BLOCK)]
        return np.cumsum([0, *sums]) % (2 * self.depth)


class Strings(TaggedStream):
    """Base: strings of two halves of n symbols, one after another; log n is uniform, from 2 to a share of the length.

    Within a second half the next symbol follows from what has been read, and is the answer.

    between  symbols between the halves
    """

    between = 0

    def __init__(self, words: Vocabulary, length: int, label: str) -> None:
        super().__init__(words, length, label)
        rng, most = random.Random(f"{label} sizes"), max(2, length // LEAST_STRINGS)
        sizes, ends = [], [0]
        while ends[-1] <= length:
            sizes.append(min(int(2 * ((most + 1) / 2) ** rng.random()), most))
            ends.append(ends[-1] + 2 * sizes[-1] + self.between)
        self.sizes, self.ends = np.array(sizes), np.array(ends)

    def string_of(self, places: np.ndarray) -> np.ndarray:
        """Number of the string that has each of the places."""
        return np.searchsorted(self.ends, places, side="right") - 1

    def answers(self, start: int, stop: int) -> np.ndarray:
        """The next symbol."""
        offsets, sizes = self._offsets(start, stop)
        return np.where((sizes <= offsets) & (offsets < 2 * sizes), self.symbols(start + 1, stop + 1), NONE)

    def first_scored(self, size: np.ndarray) -> np.ndarray:
        """The first offset in a string of that size that is scored; all later ones up to 2 n are too."""
        raise NotImplementedError

    def scored(self, start: int, stop: int) -> np.ndarray:
        """From first_scored() on."""
        offsets, sizes = self._offsets(start, stop)
        return offsets >= self.first_scored(sizes)

    def choose(self, count: int) -> list[int]:
        """Places to ask in, rising: a random scored place of a random string, different ones."""
        rng, places = random.Random(f"{self.label} asked"), set[int]()
        complete = int(np.searchsorted(self.ends, self.length, side="right")) - 1
        while len(places) < count:
            string = int(rng.random() * complete)
            size = int(self.sizes[string])
            first = int(self.first_scored(np.array(size)))
            places.add(int(self.ends[string]) + first + int(rng.random() * (2 * size - first)))
        return sorted(places)

    def _offsets(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each place is in its string, and the n of that string."""
        places = np.arange(start, stop)
        strings = self.string_of(places)
        return places - self.ends[strings], self.sizes[strings]


class Counts(Strings):
    """a^n b^n: the answer is b until there are as many as there were a, then a."""

    def symbols(self, start: int, stop: int) -> np.ndarray:
        """0 for a, 1 for b."""
        offsets, sizes = self._offsets(start, stop)
        return (offsets >= sizes).astype(np.int64)

    def first_scored(self, size: np.ndarray) -> np.ndarray:
        """The last b but one: the next is b there, and a at the last."""
        return 2 * size - 2

    def needs(self, place: int) -> int:
        """The first a."""
        return int(self.ends[self.string_of(np.array(place))])


class Palindromes(Strings):
    """n random symbols, a mark, the same backwards.

    kinds  of symbols; the mark is one more
    """

    between = 1

    def __init__(self, words: Vocabulary, length: int, label: str, *, kinds: int) -> None:
        super().__init__(words, length, label)
        self.kinds, self.rule = kinds, str(kinds)

    def symbols(self, start: int, stop: int) -> np.ndarray:
        """Half by half, since each is one range of drawn symbols."""
        out = np.full(stop - start, self.kinds)
        one, other = self.string_of(np.array([start, stop - 1])).tolist()
        for string in range(one, other + 1):
            begin, size = int(self.ends[string]), int(self.sizes[string])
            middle = begin + size
            first, last = max(start, begin), min(stop, middle)
            if first < last:
                out[first - start : last - start] = drawn(self.seed, first, last, self.kinds)
            first, last = max(start, middle + 1), min(stop, middle + 1 + size)
            if first < last:
                mirrored = drawn(self.seed, 2 * middle - last + 1, 2 * middle - first + 1, self.kinds)
                out[first - start : last - start] = mirrored[::-1]
        return out

    def first_scored(self, size: np.ndarray) -> np.ndarray:
        """The mark: all symbols after it are scored."""
        return size

    def needs(self, place: int) -> int:
        """The first place of the next symbol."""
        string = self.string_of(np.array(place))
        return 2 * int(self.ends[string] + self.sizes[string]) - place - 1


def _last_rise(heights: np.ndarray) -> np.ndarray:
    """For each step of a walk, the last step so far that rose to its height; NONE for height 0, or if none did.

    heights  before the first step, and after each [n + 1]
    """
    after, rises = heights[1:], heights[1:] > heights[:-1]
    order = after.astype(np.int16).argsort(kind="stable")  # height by height, each in the order of the steps
    grouped, rank = after[order], np.arange(len(after))
    last = np.maximum.accumulate(np.where(rises[order], rank, NONE))
    first = np.searchsorted(grouped, np.arange(after.max(initial=0) + 1))[grouped]  # of its height
    found = np.empty(len(after), dtype=np.int64)
    found[order] = np.where((last >= first) & (grouped > 0), order[last], NONE)
    return found


@lru_cache
def quotients(group: str) -> np.ndarray:
    """int16 [n, n]: the element x with s x = t for all s and t of a group of n elements, of which 0 is the identity.

    group  "z5": sums modulo 5; "s5", "a5": all permutations of 5 things, and the even ones, in the order of itertools;
           s x is s first, then x
    """
    kind, n = group[0], int(group[1:])
    if kind == "z":
        return ((np.arange(n) - np.arange(n)[:, None]) % n).astype(np.int16)
    elements = np.array([each for each in permutations(range(n)) if kind == "s" or _is_even(each)])
    codes, powers = elements @ n ** np.arange(n), n ** np.arange(n)
    order = codes.argsort()
    products = elements[:, elements.argsort(1)] @ powers  # of s^-1, then t; [t, s]
    return order[np.searchsorted(codes[order], products)].T.astype(np.int16)


def _is_even(permutation: tuple[int, ...]) -> bool:
    return sum(a > b for a, b in combinations(permutation, 2)) % 2 == 0


def drawn(seed: int, start: int, stop: int, choices: int) -> np.ndarray:
    """Random numbers below `choices` in the places [start, stop), int64; each follows from seed and place alone."""
    first, last = start // PER_STEP, -(-stop // PER_STEP)
    raw = np.random.Philox(key=seed, counter=first).random_raw(4 * (last - first)).astype("<u8").view("<u4")
    return (raw[start - first * PER_STEP : stop - first * PER_STEP] % np.uint32(choices)).astype(np.int64)
