"""A model folder from anywhere: its card is a model or one message; nothing hangs, nothing large is allocated."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from atlas_bench.cli.app import app
from atlas_bench.errors import UserError
from atlas_bench.models import card, loading, specs
from atlas_bench.models.config import RANGES, Config
from atlas_bench.models.decoder import Decoder

FIELDS = [*RANGES, "memory", "memory_options", "placement"]
WRONG = [None, True, -1, 0, 10**400, 1.5, float("nan"), "", "2", "\ud800", [], {}, [1], {"a": 1}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    loading.save(folder, Decoder(Config(memory="titans", d_model=32, n_heads=2)), {"training_tokens": 5})
    return folder


@pytest.fixture
def written(folder):
    """Writes a card into the folder; the good one is put back at the end."""
    path = folder / specs.CARD
    good = path.read_bytes()
    yield lambda text: path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    path.write_bytes(good)


def changed(folder, part: str | None, **fields) -> str:
    about = json.loads((folder / specs.CARD).read_text())
    (about if part is None else about[part]).update(fields)
    return json.dumps(about)


def refused(folder) -> str:
    with pytest.raises(UserError) as refusal:
        loading.load(str(folder))
    message = str(refusal.value)
    assert "card" in message and len(message) < 900, message
    return message


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_field_of_a_wrong_type_or_range_is_one_message(folder, written, field, value):
    if (field, value) in (("memory_options", {}), ("n_persistent", 0), ("attention_window", 0), ("screen", 0)):
        pytest.skip("that is right")
    written(changed(folder, "config", **{field: value}))
    refused(folder)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_layers": 10**9}, "n_layers is 1000000000"),
        ({"d_model": 10**6}, "d_model is 1000000"),
        ({"vocab_size": 10**9}, "vocab_size"),
        ({"mlp_ratio": 10**6}, "mlp_ratio"),
        ({"n_layers": 256, "d_model": 2**16, "n_heads": 2, "mlp_ratio": 1000}, "other"),  # 1 PB: its weights differ
        ({"n_heads": 3}, "no multiple of n_heads"),
        ({"memory": "titan"}, "Did you mean 'titans'"),
        ({"memory": "./evil.py"}, "only run when the command names it"),
        ({"memory_options": {"chunk_size": 10**12}}, "chunk_size is 1000000000000"),
        ({"memory_options": {"degre": 1}}, "degre"),
        ({"memory_options": {"chunk_size": "two"}}, "chunk_size"),
        ({"placement": "../mal"}, "unknown placement"),
        ({"heads": 4}, "heads"),
    ],
    ids=str,
)
def test_a_card_that_asks_for_too_much_or_for_what_is_not_there_is_one_message(folder, written, fields, said):
    written(changed(folder, "config", **fields))
    with pytest.raises(UserError, match=said):
        loading.load(str(folder))


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[]", b"3", b'"card"', b"\xff\xfe{\x00}\x00", b"{}", b'{"config": 3}', b'{"config": []}',
        b'{"config": {"memory": "titans", "n_layers": 1e999}}', b"[" * 100_000,
        b'{"config":' * 5000 + b"1" + b"}" * 5000,
        b'{"config": {"memory": "none"}, "x": ' + b"[" * 900 + b"]" * 900 + b"}", b" " * 20_000_000,
        b'{"config": {"memory": "none", "n_layers": ' + b"9" * 5000 + b"}}", b'{"config": {"memory": "\xff"}}',
        b'{"config": {"memory": "none"}, "recipe": 3}', b'{"config": {"memory": "none"}, "recipe": {"tasks": [3]}}',
        b'{"config": {"memory": "none"}, "training_tokens": "many"}',
        b'{"config": {"memory": "none"}, "training_tokens": -5}',
        b'{"config": {"memory": "none"}, "initialised_from": {"training_tokens": "x"}}',
        b'{"config": {"memory": "none"}, "data": [1]}', b'{"config": {"memory": "none"}, "final": 3}',
    ],
    ids=lambda text: repr(text[:50]),
)  # fmt: skip
def test_what_is_no_card_is_one_message_in_every_command(folder, written, text):
    written(text)
    message = refused(folder)
    for words in (
        ["describe", str(folder)],
        ["run", "mqar:8", "--len", "1K", "--model", str(folder), "--dry-run"],
        ["train", "--memory", "titans", "--init", str(folder), "--out", str(folder / "new"), "--tokens", "1K"],
        ["compare", "titans-nano", str(folder), "--task", "mqar:8", "--len", "1K", "--out", str(folder / "compared")],
        ["export", str(folder), str(folder / "exported")],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2 and not result.stdout, (words, result.output)
        assert result.stderr == f"error: {message}\n"
    assert {path.name for path in folder.iterdir()} == {loading.WEIGHTS, specs.CARD}


def test_a_folder_in_the_place_of_a_card_is_one_message(tmp_path):
    (tmp_path / specs.CARD).mkdir()
    assert "Is a directory" in refused(tmp_path)


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    part=st.sampled_from(["config", None]),
    name=st.sampled_from([*FIELDS, "recipe", "initialised_from", "data", "final", "history", "training_tokens"]),
    value=json_value,
)
def test_any_value_anywhere_is_a_model_or_one_message(folder, written, part, name, value):
    good = json.loads(changed(folder, None))
    (good if part is None else good[part])[name] = value
    written(json.dumps(good))
    try:
        facts = loading.load(str(folder)).facts()
    except UserError:
        return
    assert json.dumps(facts)
    assert CliRunner().invoke(app, ["describe", str(folder)]).exit_code == 0


def test_every_embedded_model_has_a_card(folder):
    for name in specs.names():
        path = specs.PRETRAINED / name / specs.CARD
        if path.exists():
            assert card.read(path)["config"]["memory"]
