import pytest
import torch

from atlas_bench.kernels.window_attention.chunk import window_attention


def naive(qkv, mask):
    """Each block of queries over its own keys and those of the block before."""
    outputs = []
    for b in range(1, len(qkv)):
        q = qkv[b, :, 0]
        k, v = (torch.cat([qkv[b - 1, :, i], qkv[b, :, i]]) for i in (1, 2))
        scores = torch.einsum("ihk,jhk->hij", q, k) * q.shape[-1] ** -0.5 + mask
        outputs.append(torch.einsum("hij,jhk->ihk", scores.softmax(-1), v))
    return torch.stack(outputs)


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (3, 4, 2, 8), (9, 16, 4, 32)])
def test_values_and_gradients_are_those_of_the_definition(shape):
    blocks, size, heads, width = shape
    torch.manual_seed(0)
    qkv = torch.randn(blocks, size, 3, heads, width, dtype=torch.float64, requires_grad=True)
    mask = torch.randn(heads, size, 2 * size, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        mask[..., -1].fill_(-torch.inf)  # a key that nobody sees
    got, want = window_attention(qkv, mask), naive(qkv, mask)
    assert (got - want).abs().max() < 1e-12
    dy = torch.randn_like(want)
    for mine, theirs in zip(*(torch.autograd.grad(y, (qkv, mask), dy) for y in (got, want)), strict=True):
        assert torch.isfinite(mine).all()
        assert (mine - theirs).abs().max() < 1e-12
