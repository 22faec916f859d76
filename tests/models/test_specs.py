"""What stands behind --model: lists, names to be shown, and models that records say where they came from."""

from __future__ import annotations

import pytest

from atlas_bench.errors import UserError
from atlas_bench.models import loading, specs


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["atlas-nano"], {"atlas-nano": "atlas-nano"}),
        (["oracle,constant", "swa-nano"], {name: name for name in ("oracle", "constant", "swa-nano")}),
        (["oracle, constant"], {name: name for name in ("oracle", "constant")}),
        (["best=oracle,worst=constant"], {"best": "oracle", "worst": "constant"}),
        (["small=hf:a/b:dtype=float32,chat=false"], {"small": "hf:a/b:dtype=float32,chat=false"}),
        (["q=openai:http://h/v1#m;context=4K"], {"q": "openai:http://h/v1#m;context=4K"}),
        (["hf:a/b:dtype=float32,chat=false"], {word: word for word in ["hf:a/b:dtype=float32,chat=false"]}),
        (["oracle", "oracle"], {"oracle": "oracle"}),
        (["oracle,hf:a/b"], {"oracle": "oracle", "hf:a/b": "hf:a/b"}),
        (["hf:a/b,hf:c/d"], {"hf:a/b": "hf:a/b", "hf:c/d": "hf:c/d"}),
        (["hf:a/b, oracle"], {"hf:a/b": "hf:a/b", "oracle": "oracle"}),
        (
            ["x=hf:a/b:dtype=float32,chat=false,oracle,y=hf:c/d:chat=false,thinking=9"],
            {"x": "hf:a/b:dtype=float32,chat=false", "oracle": "oracle", "y": "hf:c/d:chat=false,thinking=9"},
        ),
        (
            ["q=openai:http://h/v1#m;context=4K,openai:http://h/v1#n,p,constant"],
            {
                "q": "openai:http://h/v1#m;context=4K",
                "openai:http://h/v1#n,p": "openai:http://h/v1#n,p",
                "constant": "constant",
            },
        ),
    ],
)
def test_lists_are_parted_and_names_taken_off(words, found):
    assert specs.typed(words) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["oracle,"], "a comma too many"),
        (["hf:a/b,"], "a comma too many"),
        (["hf:a/b,,oracle"], "a comma too many"),
        (["hf:a/b,orcle"], "unknown model 'orcle'. Did you mean 'oracle'"),
        (["a=oracle", "a=constant"], "Give each its own"),
        (["a=hf:a/b,a=hf:c/d"], "Give each its own"),
        ([""], "it is empty"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        specs.typed(words)


def test_lists_of_files_and_folders_are_parted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "b", "llama", "gpt2", "x,y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "mine" / "card.json").write_text('{"config": {"memory": "none"}}')
    (tmp_path / "m.py").touch()
    for word, parted in (
        ("hf:./llama,hf:./gpt2", ["hf:./llama", "hf:./gpt2"]),
        ("hf:./x,y,./mine", ["hf:./x,y", "./mine"]),
        ("py:m.py:a,b,py:m.py,mine", ["py:m.py:a,b", "py:m.py", "mine"]),
    ):
        assert list(specs.typed([word])) == parted


@pytest.mark.parametrize(
    "word", ["a" * 5000, "~nobody-of-that-name/m", "nul\0", "./" + "a/" * 3000, "\u202e", " ", "="]
)
def test_any_text_is_a_model_or_a_message(word):
    with pytest.raises(UserError, match="unknown model"):
        specs.typed([word])


def test_a_canary_goes_to_endpoints_whatever_they_are_called():
    from atlas_bench.models.endpoint import spec

    asked = "openai:http://h/v1#m;canary=true"
    found = spec.with_canary(specs.typed(["oracle,constant", "q=openai:http://h/v1#m", "openai:http://h/v1#m"]))
    assert found == {"oracle": "oracle", "constant": "constant", "q": asked, asked: asked}


def test_a_folder_with_an_equals_sign_or_a_comma_in_its_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("lr=0.1", "a,b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text('{"config": {"memory": "none"}}')
        assert specs.typed([name]) == {name: name}


def test_a_shown_name_is_the_record_s_model_and_the_model_says_what_it_is():
    told: list[str] = []
    models = loading.load_all(["best=oracle", "swa=swa-nano", "constant"], say=told.append)
    assert list(models) == ["best", "swa", "constant"] and told == ["loading swa .."]
    assert [getattr(model, "spec", None) for model in models.values()] == ["oracle", "swa-nano", None]
