"""Which form runs and why; in the interpreter the Triton forms stand in for themselves on a GPU."""

import pytest
import torch
from torch import nn

from atlas_bench.errors import UserError
from atlas_bench.kernels import check, dispatch, processor
from atlas_bench.models import loading


@pytest.mark.parametrize("op", dispatch.OPS)
@pytest.mark.parametrize("form", ["chunk", "triton"])
def test_every_form_of_every_op_agrees_with_its_definition(op, form):
    assert check.error(op, form, "cpu") < 1e-4


def test_a_wrong_kernel_is_caught(monkeypatch):
    from atlas_bench.kernels.recurrence import chunk

    right = chunk.recurrence

    def wrong(own, onto, into, mix, state):
        anchors, errors, last = right(own, onto, into, mix, state)
        return anchors, errors, last.mul(1.0 + 0.1 * (torch.arange(last.shape[-1]) == 3))  # one column, by a tenth

    monkeypatch.setattr(chunk, "recurrence", wrong)
    assert check.error("recurrence", "chunk", "cpu") > check.TOLERANCE
    monkeypatch.setattr(chunk, "recurrence", lambda *x: [y * float("nan") for y in right(*x)])
    assert check.error("recurrence", "chunk", "cpu") == float("inf")


def test_a_cpu_gets_torch_and_is_told_why():
    from atlas_bench.kernels.recurrence import chunk

    assert dispatch.form("recurrence", torch.zeros(1)) is chunk
    assert dispatch.why_not("recurrence", "cpu") == "Triton kernels need a GPU"


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as far as dispatch asks for one."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    dispatch.why_torch.cache_clear()
    dispatch.why_not.cache_clear()
    yield
    dispatch.why_torch.cache_clear()
    dispatch.why_not.cache_clear()


def test_a_kernel_runs_where_it_fits_and_agrees(gpu, monkeypatch):
    monkeypatch.setattr(check, "error", lambda op, form, device: 1e-4)
    assert dispatch.why_not("gates", "cuda", size=64) is None
    assert "64 at most" in dispatch.why_not("gates", "cuda", size=65)
    assert "too large" in dispatch.why_not("newton_schulz", "cuda", n=256, m=256)


def test_a_kernel_that_differs_on_this_chip_does_not_run(gpu, monkeypatch):
    monkeypatch.setattr(check, "error", lambda op, form, device: 0.3)
    assert "differs from its definition by 3.0e-01" in dispatch.why_not("gates", "cuda", size=64)


def test_an_old_chip_is_named(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "7.5, 8.0 or newer" in dispatch.why_torch("cuda")


def test_projections_side_by_side_are_each_of_them():
    torch.manual_seed(0)
    layers = [nn.Linear(8, width) for width in (4, 2)]
    x = torch.randn(3, 5, 8)
    assert torch.allclose(processor.project(x, *layers), torch.cat([layer(x) for layer in layers], -1), atol=1e-6)


def test_products_are_set_back_even_after_an_error():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), processor.products("bf16"):
        assert torch.get_float32_matmul_precision() == "medium"
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == before


def test_a_device_that_is_not_there_is_said():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=r"sees no GPU.*atlas-bench doctor"):
        loading.load("atlas-nano", device="cuda")


def test_doctor_says_what_runs_and_why(capsys):
    from atlas_bench import doctor

    told = list(doctor.lines())
    assert all(well for _, well in told)
    text = "\n".join(line for line, _ in told)
    assert all(op in text for op in dispatch.OPS) and "Triton kernels need a GPU" in text
    assert max(len(line) for line in text.splitlines()) <= 80
