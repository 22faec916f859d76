"""The contracts refuse what breaks them, each in one sentence; the example keeps them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas_bench import registry
from atlas_bench.comparison import verify
from atlas_bench.errors import UserError
from atlas_bench.kernels.anchored import chunk, mlp
from tests.command import call

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_memory.py"
RIGHT = """
import torch
from atlas_bench.models.memory.base import Memory

class Mine(Memory):
    def init_state(self, batch):
        return {"M": self.key.weight.new_zeros(batch, self.n_heads, self.head_dim, self.head_dim)}

    def step(self, state, k, v, gates):
        return {"M": state["M"] - k.mT @ (k @ state["M"] - v)}

    def read(self, state, q):
        return q @ state["M"]
"""
STEP = 'return {"M": state["M"] - k.mT @ (k @ state["M"] - v)}'


@pytest.fixture
def file(tmp_path):
    """A function that writes my_memory.py and returns its path."""

    def write(text: str) -> str:
        (tmp_path / "my_memory.py").write_text(text)
        return str(tmp_path / "my_memory.py")

    return write


def broken(path: str, contract: str) -> str | None:
    """What a contract says of a file."""
    return verify.CONTRACTS[contract](verify.builder(registry.memory(registry.name_file(path))))


def test_the_example_keeps_every_contract_and_is_short():
    result = call("verify", f"{EXAMPLE}:most_caution=0.5")
    assert result.exit_code == 0, result.output
    said = {line[:16].strip(): line[16:] for line in result.stdout.splitlines()}
    assert said.pop("closed form") == "none: step() token by token"
    assert said == {name: "ok" for name in verify.CONTRACTS if name != "closed form"}
    assert len(EXAMPLE.read_text().splitlines()) < 60


@pytest.mark.slow
def test_a_file_as_plain_as_it_can_be_keeps_every_contract(file):
    assert call("verify", file(RIGHT)).exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def step(:\n", "is not Python: invalid syntax (line 1: def step(:)"),
        ("import torch\nx = 1\ny = x / 0\n", "ZeroDivisionError: division by zero (line 3 of my_memory.py: y = x / 0)"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all' (line 1"),
        ("raise SystemExit(0)\n", "SystemExit: 0 (line 1"),
        ("from atlas_bench.models.memory.titans import Titans\n", "defines no memory"),
        (RIGHT + "\nclass Other(Mine):\n    pass\n", "defines 2 memories (Mine, Other)"),
    ],
)
def test_a_file_that_gives_no_memory_is_one_message(file, text, said):
    result = call("verify", file(text))
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.startswith("error: memory file") and result.stderr.count("\n") == 1
    assert said in result.stderr


def test_an_absent_file_is_one_message(tmp_path):
    result = call("verify", str(tmp_path / "nowhere.py"))
    assert result.exit_code == 2 and "nowhere.py' cannot be read: No such file" in result.stderr


OWN_INIT = "    def __init__(self, d_model):\n        super().__init__(d_model, 1, 1)\n\n    def step"
SHAPES = "state grows: 'M' is (6, 16, 16) before a step() and (6, 17, 16) after"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("def step", "def stop", "step() is missing"),
        ("def init_state", "def initial", "init_state() is missing"),
        ("def read", "def reed", "read() is missing"),
        (STEP, 'return {"M": torch.cat([state["M"], k], -2)}', SHAPES),
        (STEP, 'return {"N": state["M"]}', "step() gives 'N', not 'M' as init_state()"),
        (STEP, 'return {"M": state["W"]}', """KeyError: 'W' (line 10 of my_memory.py: return {"M": state["W"]})"""),
        ('q @ state["M"]', "torch.cat([q, q], -1)", "read() gives (6, 5, 32) for 5 queries, not (6, 5, 16)"),
        ("self.key.weight.new_zeros(", "torch.zeros(", "'M' is torch.float32 and the weights torch.float64"),
        ("new_zeros(batch, self.n_heads,", "new_zeros(batch,", "does not begin with (3, 2), [B, H]"),
        ("    def step", OWN_INIT, "TypeError"),
        (
            "    def init_state",
            "    gates = {'lr': 2.0}\n\n    def init_state",
            "`gates` has no 'write', the gate that",
        ),
    ],
)
def test_a_wrong_method_is_the_one_sentence_of_runs(file, old, new, said):
    assert old in RIGHT
    variant = registry.memory(registry.name_file(file(RIGHT.replace(old, new))))
    ((contract, sentence),) = verify.verify(variant)
    assert contract == "runs" and said in sentence


FORWARD = """
    def forward(self, x, state=None, *, output=True):
        y, new = super().forward(x, state and {{"M": state["M"]}}, output=output)
        {line}
"""
FORGETS = """
    def forward(self, x, state=None):
        return super().forward(x, state)
"""


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (FORWARD.format(line="return y"), "forward(x) gives Tensor, not a pair of the output [B, T, D] and the state"),
        (FORWARD.format(line="return y, list(new.values())"), "forward(x) gives (Tensor, list), not a pair"),
        (FORWARD.format(line="return (y, new) if output else y"), "forward(x, output=False) gives Tensor, not"),
        (FORWARD.format(line="return None, new"), "output is NoneType, not a tensor"),
        (FORGETS, "forward() takes no output=: write `def forward(self, x, state=None, *, output=True)`"),
    ],
)
def test_a_wrong_forward_is_the_one_sentence_of_runs(file, method, said):
    ((contract, sentence),) = verify.verify(registry.memory(registry.name_file(file(RIGHT + method))))
    assert contract == "runs" and sentence.startswith(said)


CLOSED = "x.shape[1] > 128 and not self._gates(x)['write'][:, 64:128].any()"  # never so of a dense stream
GROWS = "return y, {**new, 'past': x if state is None else torch.cat([state['past'], x], 1)}"


@pytest.mark.parametrize(
    ("line", "contract", "said"),
    [
        ("return torch.cat([y, y], -1), new", "runs", "output has shape (3, 300, 64), not (3, 300, 32)"),
        ("return y + x.flip(1), new", "causal", "not causal: changing token 299 changed output 0"),
        (GROWS, "constant state", "state grows: 'past' is (3, 50, 32) after 50 tokens and (3, 300, 32) after 300"),
        ("return y + y.mean(0), new", "separate rows", "rows touch each other: changing row 0 changed row"),
        ("return y + x[:, :1], new", "any split", "a split at token 1 changes the output by"),
        (f"return y + ({CLOSED}) * x.flip(1), new", "causal", "not causal: changing token 299 changed output 0"),
        (f"return y + ({CLOSED}) * x[:, -1:], new", "any split", "a split at token 1 changes the output by"),
        ("return y * (2 if self.training else 1), new", "train and eval", "eval() changes the output by"),
        ("return y, {'M': new['M'] + output}", "output=False", "output=False changes the state 'M' by 1"),
        ("return y, {'M': 0.99 * new['M']}", "closed gate", "a closed write gate changes 'M' by"),
        ("return y.detach() + self.out.weight.sum(), new", "gradients", "no gradient reaches 'query.weight', 'key."),
        ("return y, state and {'M': state['M'].add_(1)} or new", "saved state", "feeding changes 'M' of the state"),
    ],
)
def test_a_broken_contract_is_told(file, line, contract, said):
    assert said in broken(file(RIGHT + FORWARD.format(line=line)), contract)


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        ("(x.mean(1), state)", "an empty segment gives outputs of shape (3, 32), not (3, 0, 32)"),
        ("(x, self.start(len(x)))", "an empty segment after 50 tokens changes the state 'M' by"),
    ],
)
def test_an_empty_segment_that_is_read_is_told(file, returns, said):
    method = f"""
    def __call__(self, x, state=None, **options):
        return super().__call__(x, state, **options) if x.shape[1] else {returns}
"""
    assert broken(file(RIGHT), "empty segment") is None
    assert said in broken(file(RIGHT + method), "empty segment")


def test_a_closed_token_beside_an_open_one_leaves_no_trace_but_in_a_window():
    leaking = """
    def _pairs(self, x):
        return super()._pairs(x + torch.nn.functional.pad(x, (0, 0, 1, 0))[:, :-1])
"""  # keys and values mixed with the token before, closed or not
    assert verify.closed_gate(verify.builder(registry.memory("titans"))) is None
    for options, later in (({}, 1), ({"omega_window": 4}, 3)):
        said = verify.closed_gate(verify.builder(registry.memory("omeganet"), options))
        assert not verify.is_broken(said) and f"an open one, up to {later} later, has them in its window" in said
    written = verify.builder(registry.memory("omeganet"), {"omega_window": 4, "window_counts": "written"})
    assert verify.closed_gate(written) is None
    names: dict = {}
    exec(RIGHT + leaking, names)
    said = verify.closed_gate(verify.builder(names["Mine"]))
    assert verify.is_broken(said) and "a closed token 1 before the next open one changes the output by" in said


CLOSED_FORM = """
    def write_chunk(self, state, q, k, v, gates):
        return None if q is None else self._read(state, q), state
"""


def test_a_wrong_rule_is_told(file):
    diverges = RIGHT.replace(STEP, STEP.replace("- k.mT", "+ k.mT"))
    assert "is not finite after" in broken(file(diverges), "finite")
    assert "differs from token by token: it changes the output" in broken(file(RIGHT + CLOSED_FORM), "closed form")


DENSE_ONLY = """
    def write_chunk(self, state, q, k, v, gates):
        count = (gates["write"] > 0).sum(1).amax()
        y, state = self._events(state, q, k, v, gates, int(count))
        return (y if count > 16 else 2 * y), state
"""


def test_a_closed_form_that_errs_on_sparse_blocks_alone_is_told(file):
    assert "it changes the output by" in broken(file(RIGHT + DENSE_ONLY), "closed form")
    right = DENSE_ONLY.replace("else 2 * y", "else y")
    assert broken(file(RIGHT + right), "closed form") is None


@pytest.mark.slow
def test_a_wrong_chunk_of_the_family_is_told(monkeypatch):
    """chunk_size above 1 has no write_chunk(): kernels/anchored's chunk forms are compared with naive.py."""
    for module, options in ((mlp, {"chunk_size": 16}), (chunk, {"chunk_size": 16, "map": "matrix"})):
        build = verify.builder(registry.memory("titans"), options)
        assert verify.closed_form(build) is None
        right = module.anchored
        with monkeypatch.context() as patch:
            patch.setattr(
                module, "anchored", lambda *args, right=right: (right(*args)[0] * (1 + 1e-6), right(*args)[1])
            )
            assert "it changes the output by" in verify.closed_form(build)


def test_gates_that_never_close_are_told(file):
    leaks = "    def _gates(self, x):\n        return {n: gate(x).sigmoid() for n, gate in self.gate.items()}\n"
    assert "64, 64, 64, 64, 44 tokens of blocks of 64: nothing can be checked" in broken(
        file(RIGHT + leaks), "any split"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("def step", "def stop", "cannot be run: step() is missing. `atlas-bench verify "),
        (STEP, 'return {"M": state["W"]}', """cannot be run: KeyError: 'W' (line 10 of my_memory.py: return {"M": """),
        (
            "    def init_state",
            "    gates = {'lr': 2.0}\n\n    def init_state",
            "cannot be run: `gates` has no 'write'",
        ),
        (
            "    def init_state",
            "    gates = {'write': -9.0}\n\n    def initial",
            "cannot be run: init_state() is missing",
        ),
    ],
)
def test_what_cannot_run_is_one_message_before_training(file, tmp_path, old, new, said):
    result = call("train", "--memory", file(RIGHT.replace(old, new)), "--out", str(tmp_path / "model"))
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_verify_ends_with_code_1_and_names_the_contract(file):
    result = call("verify", file(RIGHT.replace("def step", "def stop")))
    assert result.exit_code == 1 and result.stdout == "runs            step() is missing\n"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "my_memory.py:size=0",
            "my_memory.py:size=0' cannot be built: ZeroDivisionError: integer division or modulo by zero (line 7",
        ),
        ("titan", "Did you mean 'titans'?"),
        ("none", "nothing to verify"),
        ("atlas:degre=1", "no option 'degre'. Did you mean 'degree'? Its options: "),
        ("atlas:degree", "'degree' is not option=value"),
        ("atlas:degree=two", "degree is 'two', which is no int"),
        ("atlas:degree=true", "degree is True, which is no int"),
        ("gated-deltanet:omega=1", "Its options: negative_eigenvalues=False, printed=False"),
    ],
)
def test_a_wrong_spec_is_one_message(spec, said, tmp_path, monkeypatch):
    init = "    def __init__(self, *args, size=1):\n        super().__init__(*args, omega_window=1 // size)\n"
    (tmp_path / "my_memory.py").write_text(RIGHT.replace("class Mine(Memory):\n", "class Mine(Memory):\n" + init))
    monkeypatch.chdir(tmp_path)
    result = call("verify", spec)
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1


def test_specs_are_parsed_as_literals():
    assert registry.parse_memory("atlas") == ("atlas", {})
    assert registry.parse_memory("atlas:degree=1,omega_window=16")[1] == {"degree": 1, "omega_window": 16}
    spec = r"C:\here\x.py:a=0.5,b=true,c=text,d=None"
    assert registry.parse_memory(spec) == (r"C:\here\x.py", {"a": 0.5, "b": True, "c": "text", "d": None})


def test_a_file_is_run_only_when_it_was_named(file, tmp_path):
    """A card may name a file; loading it must not execute anything, and another version is refused."""
    from atlas_bench.models import loading
    from atlas_bench.models.decoder import Config, Decoder

    path = file(RIGHT)
    name = registry.name_file(path)
    loading.save(tmp_path / "model", Decoder(Config(memory=name, d_model=32, n_heads=2)), {})
    card = loading.card(str(tmp_path / "model"))
    assert card["config"]["memory"] == name and card["memory_file"]["sha256"].startswith(name.partition("@")[2])
    assert (tmp_path / "model" / "my_memory.py").read_text() == RIGHT
    assert loading.load(str(tmp_path / "model")).facts()["memory"] == name
    registry._FILES.clear()  # as in another process
    (tmp_path / "model" / "my_memory.py").write_text("raise AssertionError('executed')\n")
    with pytest.raises(UserError, match=r"a file is only run when the command names it. Add --code"):
        loading.load(str(tmp_path / "model"))
    registry.name_file(file(RIGHT + "\n# edited\n"))
    with pytest.raises(UserError, match="has changed: the model was trained with version"):
        loading.load(str(tmp_path / "model"))
    words = ["run", "babilong:qa1", "--len", "1K", "--samples", "1", "--model", str(tmp_path / "model"), "--json"]
    words += ["--out", str(tmp_path / "runs")]
    assert call(*words, "--code", file(RIGHT)).exit_code == 0
