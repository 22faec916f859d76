"""The recipe on a tiny model: it learns, resumes exactly, and refuses another run's checkpoint."""

import json
import re
import signal
import threading
import time
from collections import Counter, deque
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from atlas_bench import api, registry
from atlas_bench.errors import UserError
from atlas_bench.files import locks
from atlas_bench.models import loading
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora
from atlas_bench.tasks.babilong_lessons import BabilongLessons
from atlas_bench.tasks.lessons import Ask, Mixture, Segment
from atlas_bench.tasks.mqar import MQAR
from atlas_bench.training import checkpoint, command
from atlas_bench.training.loop import open_shares, train
from atlas_bench.training.optimizers import Optimizers
from atlas_bench.training.recipe import Progress, Recipe
from atlas_bench.training.schedule import advance, costs_grow, plan_round, set_cost, set_rates, summed
from atlas_bench.training.step import count_skipped, step
from tests.marks import sweep

TINY = Recipe(
    longest=128, segment=64, contexts=2, least_tokens=256, curriculum_tokens=2048, mixed_tokens=1024,
    stream_tokens=1024, stream_length=256, promote_steps=4,
)  # fmt: skip
UNTAUGHT = SimpleNamespace(name="untaught", subsets=("a",))  # a task without lessons
CONFIG = Config(memory="gated-deltanet", d_model=32, n_heads=2)


@pytest.fixture(scope="module")
def lessons(tmp_path_factory):
    corpus = corpora.generated(embedded(), cache=tmp_path_factory.mktemp("cache"), shard_tokens=20_000)
    return BabilongLessons(("qa1",), [corpus], embedded(), 0)


def weights(model):
    return {name: x.clone() for name, x in model.state_dict().items()}


@pytest.mark.slow
def test_every_stage_runs_and_the_loss_falls(lessons, tmp_path):
    seen = []
    recipe = replace(TINY, curriculum_tokens=16_384)
    _, progress = train(
        CONFIG, recipe, lessons.seeded, tmp_path, report=lambda p: seen.append((p.stage, p.last["loss"]))
    )
    assert progress.stage == "done"
    assert [stage for stage, _ in dict.fromkeys((s, 0) for s, _ in seen)] == ["curriculum", "mixed", "stream"]
    assert seen[-1][1] < seen[0][1] / 2


@sweep("memory", ["gated-deltanet", "titans"], quick=["gated-deltanet"])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(lessons, tmp_path, memory):
    config = replace(CONFIG, memory=memory)
    whole, progress = train(config, TINY, lessons.seeded, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.round == 5:
            raise Stop

    with pytest.raises(Stop):
        train(config, TINY, lessons.seeded, tmp_path / "cut", report=stop, checkpoint_seconds=0)
    rounds, said = [], []
    cut, again = train(
        config, TINY, lessons.seeded, tmp_path / "cut", report=lambda p: rounds.append(p.round), warn=said.append
    )
    assert not said and rounds[0] == 5  # one that began again would end in the same weights
    assert again.tokens == progress.tokens and again.round == progress.round
    for name, x in weights(whole).items():
        assert torch.equal(x, weights(cut)[name]), name


def test_ctrl_c_saves_the_whole_round_and_a_second_one_stops_at_once(lessons, tmp_path):
    whole, progress = train(CONFIG, TINY, lessons.seeded, tmp_path / "whole")
    said, rounds = [], []

    def press(at, times):
        def report(progress):
            rounds.append(progress.round)
            for _ in range(times * (progress.round == at)):
                signal.raise_signal(signal.SIGINT)

        return report

    def go(report):
        return train(CONFIG, TINY, lessons.seeded, tmp_path / "cut", report=report, say=said.append)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"before a checkpoint was saved: the same command begins again\.$"):
        go(press(2, times=2))
    with pytest.raises(KeyboardInterrupt, match=r"^stopped at \S+ of .* tokens; .* goes on from there\.$"):
        go(press(5, times=1))
    with pytest.raises(KeyboardInterrupt, match=r"goes on from the last checkpoint, at \S+\.$"):
        go(press(7, times=2))
    cut, again = go(press(0, times=0))
    assert rounds == [1, 2, 1, 2, 3, 4, 5, 6, 7, *range(6, progress.round + 1)]
    assert said == 3 * ["stopping after this round of contexts; Ctrl-C again stops at once"]
    assert signal.getsignal(signal.SIGINT) is before and again.tokens == progress.tokens
    for name, x in weights(whole).items():
        assert torch.equal(x, weights(cut)[name]), name


def test_a_checkpoint_of_another_run_is_refused(lessons, tmp_path):
    train(CONFIG, replace(TINY, curriculum_tokens=512, mixed_tokens=1, stream_tokens=1), lessons.seeded, tmp_path)
    with pytest.raises(UserError, match=r"recipe differs in .*seed"):
        train(CONFIG, replace(TINY, seed=7), lessons.seeded, tmp_path)
    with pytest.raises(UserError, match=r"recipe differs in --tokens\. Train into"):
        train(CONFIG, TINY.within(10_000), lessons.seeded, tmp_path)
    with pytest.raises(UserError, match=r"config differs in memory"):
        train(replace(CONFIG, memory="titans"), TINY, lessons.seeded, tmp_path)


def test_lessons_ask_what_is_true_and_never_change_a_fact(lessons):
    tokenizer = embedded()
    for segment_number, segment in enumerate(lessons.seeded(3).stream(2048, 256)):
        text = tokenizer.decode(segment.tokens)
        for ask in segment.asks:
            question, answer = tokenizer.decode(ask.question), tokenizer.decode(ask.answer)
            assert question.startswith(" Where is ") and answer.endswith("\n")
            person, place = question[10:-1], answer.strip()
            if segment_number == 0:
                assert f"{person} " in text and f" to the {place}." in text
    a, b = (list(lessons.seeded(5).stream(1024, 128)) for _ in range(2))
    assert all((x.tokens == y.tokens).all() and x.asks == y.asks for x, y in zip(a, b, strict=True))


def same(one, two):
    return all((a.tokens == b.tokens).all() and a.asks == b.asks for a, b in zip(one, two, strict=True))


def test_a_mixture_draws_from_every_kind_and_changes_none(lessons):
    mqar = MQAR.lessons(("8",), embedded(), 0)
    alone = list(lessons.seeded(7).stream(256, 64))
    assert same(Mixture([lessons], 0).seeded(7).stream(256, 64), alone)
    kinds = {name: list(kind.seeded(7).stream(256, 64)) for name, kind in (("babilong", lessons), ("mqar", mqar))}
    drawn = []
    for seed in range(40):  # the seed of the kinds is held at 7, that of the choice varies
        mixture = Mixture([lessons, mqar], seed)
        lessons.seeded(7), mqar.seeded(7)
        context = list(mixture.stream(256, 64))
        drawn += [name for name, kind in kinds.items() if same(context, kind)]
    assert len(drawn) == 40 and 8 < drawn.count("mqar") < 32


@pytest.mark.slow
def test_mqar_goes_by_the_same_recipe(tmp_path):
    """A few steps of a tiny model: the loss falls from a guess among all tokens towards one among the values."""
    seen = []
    recipe = replace(TINY, curriculum_tokens=28_000, promote_at=1.0, warmup_steps=5, adam_lr=1e-2)
    lessons = MQAR.lessons(("8", "8-spread"), embedded(), 0)
    config = replace(CONFIG, memory="none")  # the quickest
    train(config, recipe, lessons.seeded, tmp_path, report=lambda p: seen.append(p.last["loss"]))
    assert sum(seen[-10:]) / 10 < sum(seen[:10]) / 10 - 1


def test_stories_are_drawn_by_need_and_every_kind_is_asked():
    corpus = corpora.generated(embedded(), shard_tokens=20_000)
    lessons = BabilongLessons(("qa1", "qa2"), [corpus], embedded(), 0)

    def asked(accuracy):
        kinds = Counter()
        for seed in range(60):
            lessons.seeded(seed).weigh(accuracy)
            kinds.update(
                {ask.kind for segment in lessons.stream(512, 512) for ask in segment.asks if not ask.auxiliary}
            )
        return kinds

    even = asked({"qa1": 0.5, "qa2 held": 0.5, "qa2 dropped": 0.5})
    needy = asked({"qa1": 1.0, "qa2 held": 1.0, "qa2 dropped": 0.0})
    assert set(even) == {"qa1", "qa2 held", "qa2 dropped"}
    assert needy["qa2 dropped"] > 45 > even["qa2 dropped"] and needy["qa1"] < 10 < even["qa1"]


def test_a_length_is_left_when_the_weakest_kind_passes_or_its_time_is_over():
    recipe = replace(Recipe(), promote_steps=2, stay_tokens=1000)

    def length_after(kinds, tokens=500):
        window = deque([kinds, kinds], maxlen=2)
        progress = Progress(length_tokens=tokens, last={"accuracy": 0.95})
        progress.kinds, _ = summed(window)
        advance(progress, recipe, window)
        return progress.length

    assert length_after({"qa1": [50, 50], "qa3": [49, 50], "~person": [0, 50]}) == 128
    assert length_after({"qa1": [50, 50], "qa3": [40, 50]}) == 64
    assert length_after({"qa1": [50, 50], "qa3": [0, 5]}) == 128  # too few to count
    assert length_after({"qa1": [50, 50], "qa3": [40, 50]}, tokens=1000) == 128


def test_writing_costs_more_while_the_answers_stand():
    recipe, costs = replace(Recipe(), cost_growth=2.0, most_cost=5.0), []
    progress = Progress(stage="curriculum", kinds={"qa1": 1.0})
    assert not costs_grow(Progress(length=128), recipe) and costs_grow(Progress(length=256), recipe)
    for stage, right in (("curriculum", 1.0), *[("mixed", 1.0)] * 3, *[("stream", 0.5)] * 4):
        progress.stage, progress.kinds = stage, {"qa1": right}
        set_cost(progress, recipe)
        costs.append(progress.cost)
    assert costs == [1, 2, 4, 5, 2.5, 1.25, 1, 1]


def test_lessons_mark_what_states_something(lessons):
    tokenizer, told = embedded(), []
    for segment in lessons.seeded(3).stream(1024, 100):  # facts are cut by the ends of segments
        assert len(segment.free) == len(segment.tokens)
        told += segment.tokens[segment.free].tolist()
    facts = tokenizer.decode(told)
    assert re.fullmatch(r"( (Daniel|John|Mary|Sandra) [a-z ]+ the [a-z]+\.)+", facts)


def test_only_tokens_that_are_not_free_are_paid_for():
    """Everything is written at full strength, and nothing is asked but one question."""
    model = Decoder(Config("gated-deltanet", vocab_size=64, d_model=32, n_heads=2, screen=2))
    with torch.no_grad():
        for gate in (*(block.memory.gate["write"] for block in model.blocks), model.screen.out):
            gate.weight.zero_()
            gate.bias.fill_(3)
    tokens, ask = np.arange(10, dtype=np.int32), Ask((1, 2), (3,))
    recipe = replace(Recipe(), write_cost=0.01, screen_cost=0.1, muon_lr=0.0, adam_lr=0.0)

    def loss(free, length):
        segments = [[Segment(tokens, (ask,), free)] * 2]
        figures, _ = step(Optimizers(model, recipe), segments, None, recipe, Progress(length=length, cost=2))
        return figures["loss"]

    free = loss(np.ones(10, bool), 256)
    assert loss(None, 64) - free == pytest.approx(2 * 0.01 * 10, rel=1e-3)
    assert loss(None, 256) - free == pytest.approx(2 * 0.11 * 10, rel=1e-3)
    assert loss(np.arange(10) < 4, 256) - free == pytest.approx(2 * 0.11 * 6, rel=1e-3)


def test_rates_fall_with_the_length():
    recipe = replace(Recipe(), warmup_steps=1, long_rate=0.3)
    (optimizer,) = made = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.0)]
    rates = []
    for length in (64, 256, 1024, 8192):
        set_rates([*made, *made], recipe, Progress(length=length))
        rates.append(optimizer.param_groups[0]["lr"] / recipe.adam_lr)
    assert rates == pytest.approx([1, 0.5, 0.3, 0.3])


def test_open_gates_on_background_are_counted():
    model = Decoder(Config("gated-deltanet", vocab_size=64, d_model=32, n_heads=2, screen=2))
    tokens = torch.randint(64, (2, 500)).numpy()
    with torch.no_grad():
        model.blocks[1].memory.gate["write"].bias.fill_(-100)
    assert open_shares(model, tokens, block=200) == pytest.approx([1, 1, 0])
    with torch.no_grad():
        model.screen.out.bias.fill_(-100)
    assert open_shares(model, tokens, block=200) == [0, 0, 0]


def test_a_round_holds_the_tokens_the_recipe_says():
    recipe = Recipe()
    assert plan_round(recipe, Progress(length=64)) == (64, 32)
    assert plan_round(recipe, Progress(length=8192)) == (8192, 2)
    for number in range(50):
        length, batch = plan_round(recipe, Progress(stage="mixed", round=number))
        assert length % recipe.segment == 0 and length <= recipe.longest and batch >= 2
        length, _ = plan_round(recipe, Progress(stage="stream", round=number))
        assert length <= recipe.stream_length
    assert sum(
        getattr(recipe.within(10**6), f"{stage}_tokens") for stage in ("curriculum", "mixed", "stream")
    ) == pytest.approx(10**6, rel=1e-5)


def test_the_least_budget_gives_every_stage_a_token():
    least = Recipe().within(10)
    assert (least.curriculum_tokens, least.mixed_tokens, least.stream_tokens) == (6, 3, 1)
    with pytest.raises(UserError, match="Give 10 or more"):
        Recipe().within(9)


def test_a_fixed_schedule_on_a_small_budget_takes_smaller_steps_in_shorter_contexts():
    whole = Recipe(paced=True)
    assert whole.within(20_000_000) == whole and Recipe().within(300_000).least_tokens == whole.least_tokens
    small = whole.within(200_000)  # a hundredth: a tenth of each
    assert (small.longest, small.stream_length) == (1024, 4096)
    assert (small.contexts, small.least_tokens, small.most_tokens) == (2, 512, 1638)
    assert (small.muon_lr, small.first_length) == (whole.muon_lr, whole.first_length)
    middle = whole.within(5_000_000)
    assert (middle.longest, middle.stream_length, middle.contexts) == (4096, 32_768, 4)


@pytest.fixture
def diverged():
    """Weights of CONFIG that make every loss and every state NaN."""
    return {"embedding.weight": torch.full((CONFIG.vocab_size, CONFIG.d_model), torch.nan)}


def test_training_that_diverges_stops_and_says_where(lessons, tmp_path, diverged):
    seen = []
    recipe = replace(TINY, curriculum_tokens=16_384)
    with pytest.raises(UserError, match=r"diverged: in stage 'curriculum', after 5,120 tokens and 20 steps.*--seed"):
        train(
            CONFIG, recipe, lessons.seeded, tmp_path, warm_start=diverged,
            report=lambda p: seen.append((p.skipped, p.step)),
        )  # fmt: skip
    assert seen == [(n, n) for n in range(1, 20)]


def test_a_state_that_is_not_finite_is_not_passed_on(lessons, tmp_path, diverged):
    """Contexts of 256 tokens are two steps of 128; without a state there is nothing to do in the second."""
    steps = []
    for name, weights in (("sound", None), ("diverged", diverged)):
        recipe = replace(TINY, first_length=256, curriculum_tokens=1, mixed_tokens=1, stream_tokens=1)
        train(
            CONFIG, recipe, lessons.seeded, tmp_path / name, warm_start=weights,
            report=lambda p: steps.append(p.step) if p.round == 1 else None,
        )  # fmt: skip
    assert steps == [2, 1]


def test_a_step_that_is_not_finite_changes_no_weight(lessons, tmp_path, diverged):
    recipe = replace(TINY, curriculum_tokens=1, mixed_tokens=1, stream_tokens=1)
    model, progress = train(CONFIG, recipe, lessons.seeded, tmp_path, warm_start=diverged)
    assert progress.skipped == progress.step == 3
    assert [name for name, x in weights(model).items() if not x.isfinite().all()] == ["embedding.weight"]


def test_skipped_steps_are_counted_and_a_good_one_begins_the_row_anew():
    progress = Progress()
    good, nothing_asked = {"loss": 1.0, "gradient_norm": 1.0}, {"loss": 0.0}
    for figures in (*[{"loss": float("nan")}] * 10, *[{"loss": 1.0, "gradient_norm": float("inf")}] * 9):
        count_skipped(progress, figures)
    count_skipped(progress, nothing_asked)
    assert (progress.skipped, progress.skipped_in_a_row) == (19, 19)
    count_skipped(progress, good)
    assert (progress.skipped, progress.skipped_in_a_row) == (19, 0)
    card = command.describe_run(TINY, progress, {}, [], None, {})
    assert card["skipped_steps"] == 19


def trained(say=print, **given):
    """What `train` makes of the arguments, the others being as by default."""
    usual = api.defaults(api.train) | {"task": ["babilong:qa1"]}
    del usual["quiet"]
    return command.main(**usual | given, say=say)


def test_the_command_writes_a_model_that_loads_with_its_card(tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "books").mkdir()
    prose = " ".join(
        f"The {i} ships of the northern fleet went home before the winter storms came." for i in range(400)
    )
    (tmp_path / "books" / "seen.txt").write_text(prose)
    (tmp_path / "books" / "kept.txt").write_text(prose.replace("ships", "boats"))
    monkeypatch.setattr(command, "Recipe", lambda: TINY)
    monkeypatch.setattr(command, "EXAMINED", (1024,))
    monkeypatch.setattr(command, "EXAMINED_BACKGROUND", 2048)
    lines = []
    out = trained(
        memory="omeganet",
        device="cpu",
        out=tmp_path / "model",
        background=[str(tmp_path / "books")],
        hold_out=["kept"],
        say=lines.append,
    )
    card = json.loads((out / loading.CARD).read_text())
    assert (
        card["training_tokens"] > 0 and card["data"]["held_out"] == ["kept"] and card["config"]["memory"] == "omeganet"
    )
    assert card["final"]["babilong accuracy at 1024"]["n"] > 0
    screen, first, second = card["final"]["background_open"]
    assert screen == 1 and 0 <= first <= 1 and 0 <= second <= 1
    assert card["recipe"]["tasks"] == ["babilong:qa1"]
    hardware = card["hardware"]
    assert (hardware["device"], hardware["gpu"], hardware["matmul_precision"]) == ("cpu", None, "fp32")
    model = loading.load(str(out))
    assert model.facts()["training_tokens"] == card["training_tokens"]


@pytest.mark.slow
def test_the_command_trains_several_tasks_and_examines_each(tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "one.txt").write_text("The ships of the northern fleet went home before the storms. " * 300)
    monkeypatch.setattr(command, "Recipe", lambda: replace(TINY, curriculum_tokens=1024))
    monkeypatch.setattr(command, "EXAMINED", (512,))
    monkeypatch.setattr(command, "EXAMINED_BACKGROUND", 2048)
    both = trained(
        memory="omeganet:degree=1",
        out=tmp_path / "both",
        task=["mqar:8,babilong:qa1", "mqar:8-spread"],
        background=[str(tmp_path / "books")],
        say=lambda line: None,
    )
    card = json.loads((both / loading.CARD).read_text())
    assert card["recipe"]["tasks"] == ["mqar:8", "mqar:8-spread", "babilong:qa1"]
    assert card["config"]["memory_options"]["degree"] == 1
    assert card["final"]["mqar accuracy at 512"]["n"] > 16 and card["final"]["babilong accuracy at 512"]["n"] > 0
    assert list(card["data"]["corpora"]) == ["books"]
    alone = trained(memory="none", out=tmp_path / "alone", task=["mqar:8"], say=lambda line: None)
    card = json.loads((alone / loading.CARD).read_text())
    assert card["data"]["corpora"] == {} and card["final"]["mqar accuracy at 512"]["n"] > 16
    unasked = trained(memory="none", out=tmp_path / "unasked", task=["mqar:8"], examine=False, say=lambda line: None)
    assert "mqar accuracy at 512" not in json.loads((unasked / loading.CARD).read_text())["final"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"task": ["babilong:qa21"]}, "Did you mean 'qa2'"),
        ({"task": ["mqar:8,mqer"]}, "Did you mean 'mqar'"),
        ({"task": ["untaught"]}, r"'untaught' has no lessons to train on\. These have: babilong, .*mqar"),
        ({"task": ["mqar:8"], "background": ["books"]}, "mqar has no background, so 'books'"),
        ({"memory": "omeganet:degre=1"}, "Did you mean 'degree'"),
        ({"hold_out": ["seen"]}, r"--hold-out 'seen': no --background is a folder"),
        ({"hold_out": ["seen"], "background": ["pg19", "generated"]}, r"--hold-out 'seen': no --background"),
        (
            {"hold_out": ["seen", "sean.txt"], "background": ["books", "generated"]},
            r"'sean\.txt': no sean\.txt\.txt in books\. Did you mean 'seen'\? There are: other, seen\.",
        ),
        ({"out": "books/seen.txt"}, r"'books/seen\.txt': .* is a file\. Choose another"),
        ({"out": "/proc/nowhere"}, r"'/proc/nowhere' is not writable"),
        ({"device": "cuda"}, "device 'cuda' is not there"),
        ({"device": "gpu"}, "device 'gpu'"),
        ({"tokens": 3}, r"budget of 3 tokens leaves .* without a token\. Give 10 or more"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, monkeypatch, wrong, said):
    monkeypatch.setitem(registry.TASKS, "untaught", f"{__name__}:UNTAUGHT")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books" / "below").mkdir(parents=True)
    for file in ("seen.txt", "below/other.txt"):
        (tmp_path / "books" / file).write_text("It was a dark night.")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=said):
        trained(**{"memory": "omeganet", "out": tmp_path / "other"} | wrong)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_begins_from_a_model_that_knows_the_task_begins_long_and_at_full_rates():
    def recipe(init):
        origin = command.origin_of(init) if init else None
        return command.recipe_of({"babilong": ["qa1"]}, seed=3, tokens=200, fixed_schedule=False, origin=origin)

    new, warm, other = map(recipe, (None, "omeganet-nano", "omeganet-retention-nano"))
    assert (new.first_length, new.seed, new.curriculum_tokens, new.tasks) == (64, 3, 120, ("babilong:qa1",))
    assert new == other and warm == replace(new, first_length=command.WARM_LENGTH, long_rate=command.WARM_RATE)


def test_cards_of_the_first_recipe_still_load():
    """Some embedded models were trained when a recipe had `subsets` and no `tasks`."""
    card = loading.card("swa-nano")
    assert card["recipe"]["version"] == "1" and card["recipe"]["subsets"] == ["qa1"]
    before = card["initialised_from"]["training_tokens"]  # whose tokens the weights have seen too
    assert loading.load("swa-nano").facts()["training_tokens"] == card["training_tokens"] + before > before
    assert command.origin_of("swa-nano")["recipe"] == card["recipe"]


def test_a_checkpoint_that_cannot_be_used_is_put_aside_and_training_begins_again(lessons, tmp_path):
    whole, _ = train(CONFIG, TINY, lessons.seeded, tmp_path / "whole")
    train(CONFIG, TINY, lessons.seeded, tmp_path / "cut", checkpoint_seconds=0, until=0.0)
    file = tmp_path / "cut" / checkpoint.FILE
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 16
    file.write_bytes(raw)
    said = []
    again, _ = train(CONFIG, TINY, lessons.seeded, tmp_path / "cut", warn=said.append)
    assert len(said) == 1 and "checksum is wrong" in said[0] and "begins again" in said[0]
    assert file.with_suffix(".damaged").read_bytes() == raw
    assert all(torch.equal(x, weights(again)[name]) for name, x in weights(whole).items())


def test_a_full_disk_ends_no_training(lessons, tmp_path, monkeypatch):
    def full(arrays, path, metadata):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    said = []
    _, progress = train(CONFIG, TINY, lessons.seeded, tmp_path, warn=said.append, checkpoint_seconds=0)
    assert progress.stage == "done" and len(said) == 1 and "No space left" in said[0]
    assert not list(tmp_path.iterdir())


def test_a_folder_is_trained_into_by_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "Recipe", lambda: replace(TINY, curriculum_tokens=512))
    said = []

    def go():
        trained(memory="none", out=tmp_path / "m", task=["mqar:8"], examine=False, say=said.append)

    with locks.held(tmp_path / "m" / ".lock", "it", wait=True, say=said.append):
        thread = threading.Thread(target=go)
        thread.start()
        while not said:
            time.sleep(0.01)
        assert "process" in said[0] and "waiting for its end" in said[0]
        assert [path.name for path in (tmp_path / "m").iterdir()] == [".lock"]
    thread.join(60)
    assert (tmp_path / "m" / loading.CARD).exists() and not (tmp_path / "m" / ".lock").exists()
