"""A monitor leaves training as it is, knows its cost, resumes, and logs to where people look."""

import io
import json
import random

import numpy as np
import pytest
import torch
from torch import nn
from watched import content, cue, pairs

from attention_collapse.errors import DataError, ModelError, ParamsError
from attention_collapse.monitor import HeldOut, Monitor, Rule
from attention_collapse.monitor.cost import Cost


class Fusion(nn.Module):
    """With what a careless look would change: dropout, batch norm, a table made at the first pass, a counter."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
        self.register_buffer("passes", torch.zeros(()))
        self.table = None

    def forward(self, image, text):
        self.passes += 1
        states = self.body[0](torch.cat([image, text], 1))
        if self.table is None:
            self.table = torch.linspace(0.5, 1.5, 16)
        return self.body[1:](states * self.table).squeeze(1)  # training needs the table for the gradient of the states


def train(monitored, *, autocast=False, frozen=False, steps=12):
    """Weights, buffers, gradients and all random numbers after a short training, which draws some itself."""
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    model, data = Fusion(), pairs(64, 9)
    if frozen:
        model.body[1].eval()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    monitor = Monitor(model, pairs(), every=1) if monitored else None
    flags = []
    for step in range(steps):
        rows = torch.randperm(64)[:32] if step % 2 else torch.from_numpy(np.random.permutation(64)[:32])
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if monitor:
                assert monitor.step(step)
            scores = model(data.image[rows] + random.random(), data.text[rows])
            loss = nn.functional.binary_cross_entropy_with_logits(scores.float(), data.target[rows].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        flags.append([module.training for module in model.modules()])
    ends = [torch.rand(4), torch.from_numpy(np.random.rand(4)), torch.tensor([random.random()])]
    return [*model.state_dict().values(), *(p.grad for p in model.parameters()), *ends], flags


@pytest.mark.parametrize("options", [{}, {"autocast": True}, {"frozen": True}], ids=str)
def test_training_with_a_monitor_is_training_without_it_bit_for_bit(options):
    with_it, flags = train(True, **options)
    without, expected = train(False, **options)
    assert flags == expected and len(with_it) == len(without) == 19
    for one, other in zip(with_it, without, strict=True):
        assert torch.equal(one, other)


def test_it_looks_in_evaluation_mode_without_gradients_and_the_same_every_time():
    model = Fusion().train()
    seen = []

    def score(image, text):
        seen.append((model.training, model.body[3].training, torch.is_grad_enabled()))
        return content(image, text) + 1e-4 * torch.randn(len(image))  # noise of its own, as small as rounding

    monitor = Monitor(score, pairs(), every=1, model=model)
    one = monitor.step(0)
    torch.rand(1)  # training goes on
    other = monitor.step(1)
    assert set(seen) == {(False, False, False)} and model.training and model.body[3].training
    assert str(one) == str(other)


def test_everything_is_restored_after_an_error_in_the_score():
    model, state = Fusion().train(), torch.get_rng_state()

    def broken(image, text):
        torch.rand(3)
        model.passes.fill_(7)
        raise RuntimeError("out of memory")

    with pytest.raises(ModelError, match="out of memory"):
        Monitor(broken, pairs(), every=1, model=model).step(0)
    assert model.training and model.passes == 0 and torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled() and torch.is_autocast_cache_enabled()


def test_an_error_in_the_score_says_what_it_was_given():
    """The error of the model is the cause; where memory ran out, it is left as it is, for who catches it."""
    monitor = Monitor(lambda image, text: image @ text, pairs(), every=1, model=())
    with pytest.raises(ModelError) as error:
        monitor.step(0)
    assert isinstance(error.value.__cause__, RuntimeError)
    assert "failed: RuntimeError: " in error.value.got
    assert "(image: (200, 2) float32 on cpu; text: (200, 3) float32 on cpu)" in error.value.got

    def exhausted(image, text):
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        Monitor(exhausted, pairs(), every=1, model=()).step(0)


def test_it_checks_at_the_steps_it_is_told():
    monitor = Monitor(content, pairs(), every=5, model=())
    assert [step for step in range(1, 23) if monitor.step(step)] == [5, 10, 15, 20]
    assert monitor.step(22) is None
    with pytest.raises(ParamsError, match="step 3 after step 22"):
        monitor.step(3)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("check", "step", "n"), [(2.0, 1.0, 600), (0.5, 0.1, 600), (0.001, 1.0, 60)])
def test_by_the_clock_its_cost_stays_within_the_budget(check, step, n):
    """A check of 2 s beside steps of 1 s: at most one in 38 steps, and nearly that often."""
    clock = Clock()

    def score(image, text):
        clock.now += check / 4  # a check of one partner takes four passes
        return content(image, text)

    monitor = Monitor(score, pairs(20), model=(), rule=Rule(n_resamples=20))
    monitor._cost.clock = clock
    shares = []
    for number in range(n):
        monitor.step(number)
        clock.now += step
        shares.append(monitor.cost())
    steps = [values["step"] for values in monitor.history]
    fewest = max(1, check * 0.95 / (0.05 * step))
    assert max(shares[steps[1] :]) <= 0.05 + 1e-9 if fewest > 1 else len(steps) == n
    assert np.diff(steps[1:]).mean() == pytest.approx(np.ceil(fewest), abs=1)
    assert monitor.recommended_every() == pytest.approx(np.ceil(fewest), abs=1)
    assert f"every={monitor.recommended_every()} stays within 5%" in monitor.summary()


def test_cost_is_the_share_of_the_time_since_the_first_step():
    clock = Clock()
    cost = Cost(clock=clock)
    cost.start()
    clock.now += 8
    cost.add(2)
    assert cost.share == 0.25
    clock.now += 8
    assert cost.share == 0.125
    later = Clock()
    again = Cost(**cost.state_dict(), clock=later)  # the time between the two parts of a run is no part of it
    assert again.share == 0.125
    again.start()
    later.now += 16
    assert again.share == 2 / 32


def halves(split, through):
    """A run of 20 steps in which the image falls out of use at step 8, cut in two."""
    held_out = pairs()

    def score(image, text):
        return content(image, text) if now < 8 else cue(image, text)

    def start():
        return Monitor(score, held_out, every=2, model=())

    monitor, now = start(), 0
    for now in range(20):
        if now == split:
            state = through(monitor.state_dict())
            monitor = start()
            monitor.load_state_dict(state)
        monitor.step(now)
    return monitor


def through_json(state):
    return json.loads(json.dumps(state))


def through_torch(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize(
    ("split", "through"), [(5, through_json), (11, through_json), (11, through_torch), (17, through_torch)]
)
def test_a_resumed_run_goes_on_as_if_it_had_not_been_cut(split, through):
    whole, cut = halves(None, None), halves(split, through)
    assert str(cut.history) == str(whole.history)  # as text: NaN is no number's equal
    assert cut.alarms == whole.alarms and [alarm.rang_at for alarm in whole.alarms] == [12]
    assert cut._cost.checks == 10 and cut._cost.steps == 19


def test_a_state_that_is_none_or_of_another_rule_is_an_error():
    monitor = Monitor(content, pairs(), model=())
    monitor.step(0)
    state = monitor.state_dict()
    for wrong, said in (
        (None, "a state of NoneType"), ({**state, "format": 0}, "a state of format 0"),
        ({k: v for k, v in state.items() if k != "watches"}, "without watches"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said):
            monitor.load_state_dict(wrong)
    with pytest.raises(DataError, match="the state is of the rule"):
        Monitor(content, pairs(), model=(), threshold=0.5).load_state_dict(state)


@pytest.mark.parametrize("change", ["image", "label", "partners", "seed", "hard"])
def test_a_state_of_other_pairs_is_an_error_in_three_parts(change):
    held_out, options = pairs(), {"model": ()}
    state = Monitor(content, held_out, **options).state_dict()
    image, target = held_out.image.clone(), held_out.target.clone()
    if change == "image":
        image[7, 1] += 1e-6
    elif change == "label":
        target[7] = 1 - target[7]
    else:
        options[change] = {"partners": 2, "seed": 1, "hard": pairs(100, 1)}[change]
    other = Monitor(content, HeldOut(image, held_out.text, target), **options)
    with pytest.raises(DataError, match="the state is of held-out pairs") as error:
        other.load_state_dict(state)
    assert "the same held-out" in error.value.expected and "new Monitor" in error.value.remedy
    with pytest.raises(DataError, match="format None"):
        other.load_state_dict({})


def test_mlflow_takes_what_a_step_gives(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        mlflow.set_experiment("monitor")
        monitor = Monitor(cue, pairs(), every=1, model=())
        with mlflow.start_run() as run:
            for step in range(3):
                mlflow.log_metrics(monitor.step(step), step=step)
        found = mlflow.MlflowClient().get_metric_history(run.info.run_id, "image_unused")
        assert [(metric.step, metric.value) for metric in found] == [(0, 0.0), (1, 0.0), (2, 1.0)]
    finally:
        mlflow.set_tracking_uri(before)
