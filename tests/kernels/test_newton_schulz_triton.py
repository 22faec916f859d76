"""Newton-Schulz with the backward written out: the torch form and the kernel, against naive.py and autograd."""

import os
import subprocess
import sys
from itertools import product

import pytest
import torch

from atlas_bench.kernels.newton_schulz import chunk
from atlas_bench.kernels.newton_schulz.naive import newton_schulz as naive
from atlas_bench.kernels.newton_schulz.step import Step
from tests.marks import sweep

pytest.importorskip("triton")
from atlas_bench.kernels.newton_schulz import triton as kernel

SHAPES = [(1, 1), (5, 7), (16, 16), (32, 64), (64, 32), (33, 17)]


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """What is allocated starts as NaN: an element left unwritten is seen."""
    torch.manual_seed(0)
    empty = torch.empty
    monkeypatch.setattr(kernel.torch, "empty", lambda *size, **kind: empty(*size, **kind).fill_(float("nan")))


def truth(x, dy, sized, steps=5):
    """naive.py and autograd, in fp64."""
    x = x.detach().double().requires_grad_()
    y = Step(sized=True)(x) if sized else naive(x, steps=steps)
    return y.detach(), torch.autograd.grad(y, x, dy.double())[0]


def check(form, x, tolerance, *, sized=False, steps=5, **options):
    """y and dx to a relative error in the Frobenius norm."""
    x, dy = x.requires_grad_(), torch.randn(x.shape).to(x.dtype)
    y = form(x, sized=sized, steps=steps, **options)
    (dx,) = torch.autograd.grad(y, x, dy)
    assert y.shape == dx.shape == x.shape and y.dtype == dx.dtype == x.dtype
    for name, got, expected in zip(("y", "dx"), (y, dx), truth(x, dy, sized, steps), strict=True):
        error = (got.detach().double() - expected).norm() / expected.norm()
        assert error < tolerance, (name, error)


@pytest.mark.parametrize("sized", (False, True))
@pytest.mark.parametrize("shape", [*SHAPES, (64, 64), (64, 256)])
def test_torch_form(shape, sized):
    check(chunk.newton_schulz, torch.randn(3, *shape).double(), 1e-11, sized=sized)
    if shape != (1, 1):  # there the gradient is the floor's alone, a difference of nearly equal numbers
        check(chunk.newton_schulz, torch.randn(3, *shape), 1e-5, sized=sized)


@pytest.mark.parametrize("sized", (False, True))
def test_torch_form_gradcheck(sized):
    for shape in ((2, 3, 5), (2, 5, 3), (1, 2, 4, 4)):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: chunk.newton_schulz(x, steps=2, sized=sized), x)


@sweep("shape, sized", product(SHAPES[1:], (False, True)), quick=[((5, 7), True), ((16, 16), False)])
def test_kernel(shape, sized):
    check(kernel.newton_schulz, torch.randn(2, *shape), 1e-5, sized=sized)
    check(kernel.newton_schulz, torch.randn(1, *shape), 2e-2, sized=sized, precision="fp16")
    check(kernel.newton_schulz, torch.randn(1, *shape).half(), 2e-2, sized=sized)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (128, 128)])
def test_kernel_on_its_largest_matrices(shape):
    """In the tiles of tf32; the interpreter multiplies in fp32 whatever is asked for."""
    check(kernel.newton_schulz, torch.randn(1, *shape), 1e-5, steps=2, precision="tf32")


@sweep("batch", (1, 3, 63, 64, 65), quick=(1, 3))
def test_every_matrix_of_a_batch(batch, monkeypatch):
    monkeypatch.setattr(kernel, "MOST_BUFFER", 1 << 17)  # the batch in several parts
    x = torch.randn(batch, 5, 7)
    assert (kernel.newton_schulz(x, steps=1) - naive(x, steps=1)).abs().max() < 1e-5
    if batch in (3, 65):
        monkeypatch.setattr(kernel, "MOST_BUFFER", 1 << 14)
        check(kernel.newton_schulz, x[:5], 1e-5, steps=1)


def test_one_number():
    x = torch.full((2, 1, 1), -3.0, requires_grad=True)
    y = kernel.newton_schulz(x)
    (dx,) = torch.autograd.grad(y.sum(), x)
    expected, gradient = truth(x, torch.ones_like(x), False)
    assert torch.allclose(y.double(), expected, rtol=1e-5) and torch.allclose(dx.double(), gradient, atol=1e-5)


@sweep("form", (chunk.newton_schulz, kernel.newton_schulz), quick=[chunk.newton_schulz])
class TestBoth:
    def test_strided_input_is_read_where_it_lies(self, form):
        whole = torch.randn(2, 20, 3, 30)
        for x in (whole[:, :17, 1, ::2], whole[:1, :, 1].mT, whole[:, :6, 0, :9].unflatten(0, (2, 1))):
            assert not x.is_contiguous()
            check(form, x.detach(), 1e-5, sized=True)

    @pytest.mark.parametrize("dtype", (torch.float32, torch.float16))
    def test_zeros_stay_zero_and_have_a_gradient(self, form, dtype):
        for sized in (False, True):
            x = torch.zeros(2, 8, 6, dtype=dtype)
            x[1] = torch.randn(8, 6)
            x.requires_grad_()
            y = form(x, sized=sized)
            (dx,) = torch.autograd.grad(y, x, 1e-4 * torch.randn(y.shape).to(dtype))
            assert torch.equal(y[0], torch.zeros(8, 6, dtype=dtype)) and torch.isfinite(dx).all()
            assert dx[0].any() != sized  # the sized step is of second order there

    def test_rank_one_is_its_own_sized_step(self, form):
        x = torch.randn(2, 24, 1) @ torch.randn(2, 1, 12)
        assert (form(x, sized=True) - x).norm() < 1e-4 * x.norm()
        check(form, x, 1e-3)


def test_products_in_half_precision_keep_rank_one():
    """naive.py in bf16, which rounds the iterates as well, is off by more than the whole step."""
    x = torch.randn(2, 24, 1) @ torch.randn(2, 1, 12)
    expected = naive(x)
    assert (kernel.newton_schulz(x, precision="fp16") - expected).norm() < 3e-3 * expected.norm()
    assert (naive(x.bfloat16()).float() - expected).norm() > 0.5 * expected.norm()


def test_shapes_that_do_not_fit_are_refused():
    assert kernel.fits(64, 256) is kernel.fits(128, 128) is kernel.fits(1, 1) is None
    for n, m in ((129, 128), (65, 256), (16, 512)):
        with pytest.raises(ValueError, match="up to 128x128 or 64x256"):
            kernel.newton_schulz(torch.zeros(m, n))
    with pytest.raises(ValueError, match="ieee, tf32x3"):
        kernel.newton_schulz(torch.zeros(4, 4), precision="fp8")


COMPILE = """
from atlas_bench.kernels import aot
from atlas_bench.kernels.newton_schulz.triton import variants
for variant in variants():
    if variant.name.removeprefix("newton_schulz_") in ("forward_64x64_bf16_sized", "backward_32x64_fp16"):
        for target in aot.SHARED_LIMIT:
            print(aot.compile(variant, target).fault(variant))
"""


@pytest.mark.slow
def test_kernel_compiles_for_chips_that_are_not_here():
    """Two of `variants()`; all of them: python -m atlas_bench.kernels.aot --only newton_schulz."""
    real = {**os.environ, "TRITON_INTERPRET": "0"}
    said = subprocess.run([sys.executable, "-c", COMPILE], env=real, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["None"] * 4
