"""Newton-Schulz against the singular value decomposition it stands for."""

import torch

from atlas_bench.kernels.newton_schulz.naive import newton_schulz


def test_directions_are_kept_and_equalised():
    torch.manual_seed(0)
    for shape in ((3, 16, 16), (2, 8, 24), (2, 24, 8)):
        x = torch.randn(*shape, dtype=torch.float64)
        u, _, v = torch.linalg.svd(x, full_matrices=False)
        core = u.mT @ newton_schulz(x) @ v.mT
        values = core.diagonal(dim1=-2, dim2=-1)
        assert (core - torch.diag_embed(values)).abs().max() < 1e-8  # same singular vectors
        # Muon's coefficients settle between 0.7 and 1.2; a tiny singular value needs more steps to get there.
        assert values.max() < 1.25 and values.median() > 0.65 and values.min() > 0.1


def test_a_surprise_below_the_floor_stays_small_and_zero_stays_zero():
    tiny = 1e-9 * torch.ones(4, 4, dtype=torch.float64)
    assert newton_schulz(tiny).norm() < 0.1
    assert torch.equal(newton_schulz(torch.zeros(4, 4)), torch.zeros(4, 4))
