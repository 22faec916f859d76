"""A torch module that reads a stream with a state, as a Model: it answers, gives log-probabilities and is resumed.

    def forward(ids, state):                          # int64 [B, T], the state of B streams
        ...
        return logits, new                            # [B, T, V]; a new dict of tensors [B, ...]

    model = TorchModel("mine", forward, lambda batch: {"h": torch.zeros(batch, 256)}, tokenizer, ends=[2])

examples/my_model.py is a whole one that `--model py:FILE.py:FOLDER` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atlas_bench.types import Model, Tokenizer

State = dict[str, Tensor]


class TorchModel(Model):
    """Runs `forward` over streams; the state is a dict of tensors [B, ...] that nothing changes in place.

    forward   (ids int64 [B, T], state) -> (logits [B, T, V], the state after them); reading in parts must give what
              reading at once does
    empty     batch -> the state before the first token
    ends      token ids that end a text
    device    where ids are made
    about     what records say of it: parameters, memory, weights_hash, ..
    """

    def __init__(
        self, name: str, forward: Callable[[Tensor, State], tuple[Tensor, State]], empty: Callable[[int], State],
        tokenizer: Tokenizer, *, ends: Collection[int] = (), device: str = "cpu",
        about: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        self.name, self.forward, self.empty, self.tokenizer = name, forward, empty, tokenizer
        self.ends, self.device, self.about = frozenset(ends), device, {"device": device, **(about or {})}

    def start(self, batch: int) -> State:
        return self.empty(batch)

    @torch.inference_mode()
    def feed(self, state: State, tokens: np.ndarray) -> State:
        return self.forward(self._ids(tokens), state)[1]

    @torch.inference_mode()
    def answer(self, state: State, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        """Greedy text after the question, without blanks around it.

        Raises FloatingPointError for logits that are not finite.
        """
        ids, said = self._ids([question]), []
        for _ in range(max_tokens):
            logits, state = self.forward(ids, state)
            if not torch.isfinite(logits[:, -1]).all():  # argmax would take a NaN for the answer
                raise FloatingPointError(f"the logits are not finite at token {len(said) + 1} of the answer")
            token = int(logits[0, -1].argmax())
            if token in self.ends:
                break
            said.append(token)
            if any(each in self.tokenizer.decode(said).lstrip() for each in stop):
                break
            ids = self._ids([[token]])
        text = self.tokenizer.decode(said).lstrip()
        return text[: min((at for at in map(text.find, stop) if at >= 0), default=len(text))].strip()

    @torch.inference_mode()
    def logprobs(self, state: State, tokens: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        ids = self._ids(tokens)
        logits, state = self.forward(ids[:, :-1], state)
        nats = logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        return state, nats.cpu().numpy(), (logits.argmax(-1) == ids[:, 1:]).cpu().numpy()

    def row(self, state: State, index: int) -> State:
        return {name: x[index : index + 1].clone() for name, x in state.items()}

    def state_bytes(self, state: State) -> int:
        return sum(x[:1].nbytes for x in state.values())

    def finite(self, state: State) -> bool:
        """False once any number of the state is infinite or not a number."""
        return all(bool(torch.isfinite(x).all()) for x in state.values() if x.is_floating_point())

    def pack(self, state: State) -> dict[str, np.ndarray]:
        """Each tensor's bytes, since numpy lacks some dtypes, under its name and dtype."""
        return {
            f"{name}:{str(x.dtype).removeprefix('torch.')}": x.contiguous().cpu().view(torch.uint8).numpy()
            for name, x in state.items()
        }

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> State:
        state = {}
        for path, array in arrays.items():
            name, _, dtype = path.rpartition(":")
            state[name] = torch.from_numpy(array.copy()).view(getattr(torch, dtype)).to(self.device)
        return state

    def facts(self) -> dict[str, Any]:
        return dict(self.about)

    def _ids(self, tokens: Any) -> Tensor:
        return torch.from_numpy(np.asarray(tokens, np.int64)).to(self.device)
