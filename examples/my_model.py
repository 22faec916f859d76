"""A model of your own from a folder of safetensors: any torch module whose state is a dict of tensors.

    atlas-bench run babilong:qa1 --len 1K,16K --model py:examples/my_model.py:FOLDER

`--model py:FILE.py:FOLDER` executes the file and calls load("FOLDER"). Import your own package here for a checkpoint of
torchtitan or of another trainer: torchtitan writes safetensors with `checkpoint.last_save_in_hf`. A tokenizer of
Hugging Face is Tokenizer(AutoTokenizer.from_pretrained(..)) of atlas_bench.models.huggingface.tokenizer.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from atlas_bench.models.tokenizer import embedded
from atlas_bench.models.torch_model import TorchModel


class GatedRecurrence(nn.Module):
    """h_t = f_t h_(t-1) + (1 - f_t) v_t, with f_t and v_t of the token alone; h_t gives the next token."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(vocab_size, 2 * width)  # v_t and the logit of f_t
        self.out = nn.Linear(width, vocab_size, bias=False)

    def empty(self, batch: int) -> dict[str, Tensor]:
        """The state of so many streams that have read nothing: tensors [B, ...]."""
        return {"h": torch.zeros(batch, self.width)}

    def forward(self, ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """ids [B, T] -> (logits [B, T, V], a new state). Reading in parts must give what reading at once does."""
        value, gate = self.embed(ids).chunk(2, -1)
        keep = gate.sigmoid()
        new, h = (1 - keep) * value, state["h"]
        hidden = []
        for t in range(ids.shape[1]):
            h = keep[:, t] * h + new[:, t]
            hidden.append(h)
        return self.out(torch.stack(hidden, 1)), {"h": h}


def load(folder: str) -> TorchModel:
    """The model of FOLDER/model.safetensors."""
    weights = load_file(Path(folder) / "model.safetensors")
    tokenizer = embedded()
    net = GatedRecurrence(tokenizer.vocab_size, weights["out.weight"].shape[1])
    net.load_state_dict(weights)
    parameters = sum(x.numel() for x in net.parameters())
    about = {"parameters": parameters, "memory": "gated recurrence"}
    return TorchModel("my-model", net.eval(), net.empty, tokenizer, ends=[0], about=about)
