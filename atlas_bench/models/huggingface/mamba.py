"""Mamba's mixer with a state that goes on: transformers' own begins every block of two or more tokens from zero.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,   y_t = C_t h_t + D x_t        per channel, N numbers of state

transformers (5.24) hands the state on to single tokens alone, as its kernels do, so that a block read after another
would forget the first. These forward functions take the place of a loaded model's own, on its own weights (Mamba,
Falcon-Mamba, Jamba); forward.py uses them only where they agree with the model read as a whole.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PARTS = ("in_proj", "conv1d", "x_proj", "dt_proj", "A_log", "D", "out_proj", "act", "time_step_rank", "ssm_state_size")
STATES = {"cpu": 1 << 20, "cuda": 1 << 26}  # numbers of state that are formed at once, over tokens


def mixers(model: nn.Module) -> list[nn.Module]:
    """The Mamba mixers of a model, recognised by their parts; Mamba 2 and Zamba have other mixers."""
    return [x for x in model.modules() if all(hasattr(x, part) for part in PARTS) and isinstance(x.x_proj, nn.Linear)]


def install(model: nn.Module) -> None:
    """Give the model's mixers this file's forward."""
    for mixer in mixers(model):
        mixer.forward = partial(forward, mixer)


def remove(model: nn.Module) -> None:
    """Give the model's mixers their own forward back."""
    for mixer in mixers(model):
        vars(mixer).pop("forward", None)


def forward(
    mixer: nn.Module,
    hidden_states: Tensor,
    cache: Any = None,
    attention_mask: None = None,
    cache_params: Any = None,
    **_: Any,
) -> Tensor:
    """The mixer's output for [B, T, D]; the cache's layer keeps its state.

    cache           by this name from transformers 5.24 on, as cache_params before
    attention_mask  None: streams have no padding
    """
    cache = cache_params if cache is None else cache
    layer = None if cache is None else cache.layers[mixer.layer_idx]
    x, gate = mixer.in_proj(hidden_states).chunk(2, -1)
    width = mixer.conv1d.kernel_size[0] - 1
    window = getattr(layer, "window", None)
    window = x.new_zeros(x.shape[0], width, x.shape[2]) if window is None else window
    seen = torch.cat([window, x], 1)
    x = F.conv1d(seen.mT, mixer.conv1d.weight, mixer.conv1d.bias, groups=x.shape[2]).mT
    x = mixer.act(x)
    y, state = _scan_tokens(mixer, x, getattr(layer, "state", None))
    if layer is not None:
        layer.window, layer.state = seen[:, seen.shape[1] - width :].clone(), state
        layer.has_previous_state = _told(layer.has_previous_state)
    y = (y + x * mixer.D) * mixer.act(gate)
    return mixer.out_proj(y.to(hidden_states.dtype))


def _told(has_previous_state: Any) -> Any:
    """True in the form of this version of transformers: one truth value, or one per state."""
    return dict.fromkeys(has_previous_state, True) if isinstance(has_previous_state, dict) else True


def _scan_tokens(mixer: nn.Module, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """C_t h_t [B, T, D] and the last state [B, D, N], in float32; as many tokens at once as STATES allows."""
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    dt, B, C = mixer.x_proj(x).split(sizes, -1)
    if hasattr(mixer, "dt_layernorm"):  # Falcon-Mamba and Jamba
        dt, B, C = mixer.dt_layernorm(dt), mixer.b_layernorm(B), mixer.c_layernorm(C)
    dt = F.softplus(F.linear(dt, mixer.dt_proj.weight).float() + mixer.dt_proj.bias.float())
    A = -torch.exp(mixer.A_log.float())
    h = A.new_zeros(len(x), *A.shape) if state is None else state
    step = max(1, STATES[x.device.type] // h.numel())
    outputs = []
    for dt_, x_, B_, C_ in zip(*(part.float().split(step, 1) for part in (dt, x, B, C)), strict=True):
        a = torch.exp(dt_[..., None] * A)
        b = (dt_ * x_)[..., None] * B_[:, :, None]
        states = scan(a, b, h)
        outputs.append((states @ C_[..., None]).squeeze(-1))
        h = states[:, -1].clone()
    return torch.cat(outputs, 1), h


def scan(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t for all t [B, T, D, N]; a and b are used up.

    On a CPU one token after the other, one operation each; on a GPU, where launching costs more than computing, every
    round doubles the tokens that each h_t has seen.
    """
    if h.device.type == "cpu":
        for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
            h = torch.addcmul(b_t, a_t, h, out=b_t)
        return b
    return doubling(a, b, h)


def doubling(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """scan() in log2(T) rounds."""
    b[:, 0].addcmul_(a[:, 0], h)
    n = 1
    while n < a.shape[1]:
        b = torch.cat([b[:, :n], torch.addcmul(b[:, n:], a[:, n:], b[:, :-n])], 1)
        a = torch.cat([a[:, :n], a[:, n:] * a[:, :-n]], 1)
        n *= 2
    return b
