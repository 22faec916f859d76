"""Muon's step as a rule (kernels/anchored/rule.py) takes it: a function of the surprise, and its pullback."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atlas_bench.kernels import dispatch


@dataclass(frozen=True)
class Step:
    """U [.., n, m] -> O = NewtonSchulz-5(U), as ATLAS eq. (32) prints it, or sized: O <U, O> / <O, O>.

    Newton-Schulz forgets how large a surprise was, and a fact told twice would be written again at full size.
    `sized` is the steepest-descent step under the spectral norm, its length shared among the directions; for a
    surprise of rank one it is U itself.

    floor  added to the norm that U is divided by: surprises far below it stay small
    """

    sized: bool = False
    floor: float = 1e-4

    def __call__(self, surprise: Tensor) -> Tensor:
        return self._form(surprise).newton_schulz(surprise, sized=self.sized, floor=self.floor)

    def pulled_back(self, surprise: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """(the step, the gradient of <d, step>) of surprises [N, n, m], outside of autograd."""
        form = self._form(surprise)
        if hasattr(form, "pulled_back"):
            return form.pulled_back(surprise, d, sized=self.sized, floor=self.floor)
        with torch.enable_grad():
            surprise = surprise.detach().requires_grad_()
            step = form.newton_schulz(surprise, sized=self.sized, floor=self.floor)
        return step.detach(), torch.autograd.grad(step, surprise, d)[0]

    def _form(self, surprise: Tensor):
        n, m = surprise.shape[-2:]
        return dispatch.form("newton_schulz", surprise, n=n, m=m)
