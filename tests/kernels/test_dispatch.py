"""Which form runs and why; in the interpreter the Triton forms stand in for themselves on a GPU."""

from itertools import product

import pytest
import torch
from torch import nn

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.kernels import cpu, dispatch, selftest
from atlas_bench.kernels.anchored import chunk as anchored_chunk
from atlas_bench.kernels.omega import chunk as omega_chunk
from atlas_bench.models import loading
from tests.marks import sweep


@sweep(
    "form, op",
    product(["chunk", "triton"], dispatch.OPS),
    quick=[*product(["chunk"], dispatch.OPS), ("triton", "gates")],
)
def test_every_form_of_every_op_agrees_with_its_definition(op, form):
    assert selftest.error(op, form, "cpu") < 1e-4


def test_a_wrong_kernel_is_caught(monkeypatch):
    from atlas_bench.kernels.recurrence import chunk

    right = chunk.recurrence

    def wrong(own, onto, into, mix, state):
        anchors, errors, last = right(own, onto, into, mix, state)
        return anchors, errors, last.mul(1.0 + 0.1 * (torch.arange(last.shape[-1]) == 3))  # one column, by a tenth

    monkeypatch.setattr(chunk, "recurrence", wrong)
    assert selftest.error("recurrence", "chunk", "cpu") > selftest.TOLERANCE
    monkeypatch.setattr(chunk, "recurrence", lambda *x: [y * float("nan") for y in right(*x)])
    assert selftest.error("recurrence", "chunk", "cpu") == float("inf")


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_check_may_be_asked_for_without_gradients(mode):
    with mode():
        assert selftest.error("recurrence", "chunk", "cpu") < 1e-4


def test_a_kernel_that_cannot_run_is_a_reason(gpu, monkeypatch):
    def broken(*_):
        raise RuntimeError("no C compiler\nand more")

    monkeypatch.setattr(selftest, "error", broken)
    assert dispatch.why_not("gates", "cuda", size=64) == "it does not run here (RuntimeError: no C compiler)"


@sweep(
    "memory, options",
    [
        ("gated-deltanet", {}),
        ("omeganet", {"omega_window": 3}),
        ("omeganet", {"omega_window": 3, "window_counts": "written"}),
        ("titans", {"map": "matrix", "chunk_size": 16}),
        ("titans", {"chunk_size": 16}),
        ("titans", {"chunk_size": 16, "most_momentum": 1.0}),
        ("atlas", {"chunk_size": 16, "muon_every": 16}),
    ],
    quick=[("gated-deltanet", {})],
)
def test_memories_are_the_same_of_either_form(memory, options, monkeypatch):
    """The interpreter's kernels in the places of the torch forms, composed as on a GPU."""
    torch.manual_seed(0)
    layer = registry.memory(memory)(32, 2, 16, **options)
    nn.init.normal_(layer.out.weight, std=0.2)
    nn.init.constant_(layer.gate["write"].bias, 3.0)
    x = torch.randn(2, 70, 32)

    def results():
        y, state = layer(x)
        y.square().mean().backward()
        gradients = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
        layer.zero_grad()
        return [y, *(state[name] for name in sorted(state)), *gradients]

    torch_results, module, used = results(), dispatch._module, set()

    def form(op, x, **sizes):
        triton = module(op, "triton")
        if hasattr(triton, "fits") and triton.fits(**sizes):
            return module(op, "chunk")
        used.add(op)
        return triton

    for composer in (dispatch, omega_chunk):
        monkeypatch.setattr(composer, "form", form)
    deep = memory == "titans" and "map" not in options
    here = module("anchored", "triton") if deep else anchored_chunk
    monkeypatch.setattr(type(layer), "_anchored", lambda self, k: here, raising=False)
    for got, want in zip(results(), torch_results, strict=True):
        assert (got - want).abs().max() <= 1e-3 * want.abs().max() + 1e-6
    assert used or deep


def test_a_cpu_gets_torch_and_is_told_why():
    from atlas_bench.kernels.recurrence import chunk

    assert dispatch.form("recurrence", torch.zeros(1)) is chunk
    assert dispatch.why_not("recurrence", "cpu") == "Triton kernels need a GPU"


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as far as dispatch asks for one."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    dispatch.why_torch.cache_clear()
    dispatch._why_distrusted.cache_clear()
    yield
    dispatch.why_torch.cache_clear()
    dispatch._why_distrusted.cache_clear()


def test_a_kernel_runs_where_it_fits_and_agrees(gpu, monkeypatch):
    monkeypatch.setattr(selftest, "error", lambda op, form, device: 1e-4)
    assert dispatch.why_not("gates", "cuda", size=64) is None
    assert "64 at most" in dispatch.why_not("gates", "cuda", size=65)
    assert "too large" in dispatch.why_not("newton_schulz", "cuda", n=256, m=256)


def test_a_kernel_that_differs_on_this_chip_does_not_run(gpu, monkeypatch):
    monkeypatch.setattr(selftest, "error", lambda op, form, device: 0.3)
    assert "differs from its definition by 3.0e-01" in dispatch.why_not("gates", "cuda", size=64)


def test_an_old_chip_is_named(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "7.5, 8.0 or newer" in dispatch.why_torch("cuda")


def test_projections_side_by_side_are_each_of_them():
    torch.manual_seed(0)
    layers = [nn.Linear(8, width) for width in (4, 2)]
    x = torch.randn(3, 5, 8)
    assert torch.allclose(cpu.project(x, *layers), torch.cat([layer(x) for layer in layers], -1), atol=1e-6)


def test_products_are_set_back_even_after_an_error():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), cpu.matmul_precision("bf16"):
        assert torch.get_float32_matmul_precision() == "medium"
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == before


def test_a_device_that_is_not_there_is_said():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=r"sees no GPU.*atlas-bench doctor"):
        loading.load("atlas-nano", device="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_doctor_says_what_runs_and_why():
    from atlas_bench.cli import doctor

    found = doctor.examine()
    assert doctor.well(found)
    text = "\n".join(doctor.lines(found))
    assert all(op in text for op in dispatch.OPS) and "Triton kernels need a GPU" in text
    assert max(len(line) for line in text.splitlines()) <= 80
