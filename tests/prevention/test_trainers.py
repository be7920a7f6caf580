"""The adapters, in the real Trainers: the same training as a loop of one's own, and a resumed run goes on."""

import pytest
import torch
from test_methods import Fusion, batch, linear, unimodal
from torch import nn

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.prevention import (
    Choice,
    GradientModulation,
    GroupReweighting,
    Plain,
    ProductOfExperts,
    SwappedNegatives,
)

STEPS, SIZE = 6, 16
METHODS = {
    "swapped-negatives": lambda model: SwappedNegatives(seed=1),
    "product-of-experts": lambda model: ProductOfExperts(linear()),
    "gradient-modulation": lambda model: GradientModulation(
        unimodal(model), model.image.parameters(), model.text.parameters(), seed=1
    ),
}


class Taught(Fusion):
    """As transformers' Trainer wants a model: keyword inputs, and a loss in its output."""

    def forward(self, image, text, labels=None):
        logits = super().forward(image, text)
        if labels is None:
            return logits
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


def data():
    return batch(7, STEPS * SIZE)


def by_hand(name):
    model = Taught()
    method = METHODS[name](model)
    optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=0.1)
    for start in range(0, STEPS * SIZE, SIZE):
        image, text, target = (part[start : start + SIZE] for part in data())
        loss = method.loss(model, image, text, target)
        optimizer.zero_grad()
        loss.backward()
        method.after_backward()
        optimizer.step()
    return model.state_dict()


def trainer_of(folder, name, **options):
    from transformers import Trainer, TrainingArguments

    from attention_collapse.prevention.trainer import PreventionMixin

    class InOrder(PreventionMixin, Trainer):
        def _get_train_sampler(self, *_args):
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def pairs(self, inputs):
            return inputs["image"], inputs["text"], inputs["labels"]

        def score(self, model, image, text):
            return model(image, text)

    model = Taught()
    method = METHODS[name](model)
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=SIZE, save_steps=3, report_to=[],
        use_cpu=True, disable_tqdm=True, learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0,
        optim="sgd", weight_decay=0, **options,
    )  # fmt: skip
    rows = [{"image": i, "text": t, "labels": y} for i, t, y in zip(*data(), strict=True)]
    return InOrder(model, arguments, train_dataset=rows, eval_dataset=rows[:SIZE], method=method)


@pytest.mark.parametrize("name", METHODS)
def test_transformers_trainer_trains_as_a_loop_of_one_s_own(tmp_path, name):
    trainer = trainer_of(tmp_path, name)
    trainer.train()
    expected = by_hand(name)
    assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in trainer.model.state_dict().items())
    untrained = Taught().state_dict()
    assert not torch.allclose(expected["head.weight"], untrained["head.weight"])
    plain = trainer.evaluate()["eval_loss"]  # evaluation is the model's own loss
    image, text, target = (part[:SIZE] for part in data())
    assert plain == pytest.approx(trainer.model(image, text, target)["loss"].item(), abs=1e-6)


def test_transformers_trainer_goes_on_with_the_method_s_random_numbers(tmp_path):
    trainer_of(tmp_path, "swapped-negatives").train()
    again = trainer_of(tmp_path, "swapped-negatives")
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    expected = by_hand("swapped-negatives")
    assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in again.model.state_dict().items())
    (tmp_path / "checkpoint-3" / "attention_collapse_method.pt").unlink()
    with pytest.raises(DataError, match="goes on at step 3, and there is no"):
        trainer_of(tmp_path, "swapped-negatives").train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_transformers_trainer_goes_on_with_no_other_method_and_no_broken_state(tmp_path):
    trainer_of(tmp_path, "swapped-negatives").train()
    resumed = {"resume_from_checkpoint": str(tmp_path / "checkpoint-3")}
    for method in (Plain(), Choice(), GroupReweighting()):
        other = trainer_of(tmp_path, "swapped-negatives")
        other.method = other.callback_handler.callbacks[-1].method = method
        with pytest.raises(DataError, match="a state of swapped-negatives"):
            other.train(**resumed)
    (tmp_path / "checkpoint-3" / "attention_collapse_method.pt").write_bytes(b"PK broken")
    with pytest.raises(DataError, match="cannot be read"):
        trainer_of(tmp_path, "swapped-negatives").train(**resumed)


def test_an_optimiser_of_one_s_own_has_to_train_the_method_too(tmp_path):
    lacking, whole = (trainer_of(tmp_path, "product-of-experts") for _ in range(2))
    lacking.optimizer = torch.optim.SGD(lacking.model.parameters(), lr=0.1)
    with pytest.raises(ParamsError, match="without the parameters of product-of-experts"):
        lacking.train()
    own = [*whole.model.parameters(), *whole.method.parameters()]
    whole.optimizer = torch.optim.SGD(own, lr=0.1)
    whole.train()
    assert any(parameter.detach().abs().sum() > 0 for parameter in whole.method.parameters())


def test_what_is_no_method_is_named(tmp_path):
    from attention_collapse.prevention.trainer import PreventionMixin

    for wrong, said in ((SwappedNegatives, "method is SwappedNegatives"), ("erm", "method is str")):
        with pytest.raises(ParamsError, match=said):
            PreventionMixin(method=wrong)
    three = trainer_of(tmp_path, "swapped-negatives")
    three.pairs = lambda inputs: (inputs["image"], inputs["text"])
    with pytest.raises(DataError, match=r"pairs\(inputs\) gave 2"):
        three.compute_loss(three.model.train(), {"image": None, "text": None})


def test_gradients_of_several_batches_are_no_batch_s(tmp_path):
    with pytest.raises(ParamsError, match="accumulated over 2 batches"):
        trainer_of(tmp_path, "gradient-modulation", gradient_accumulation_steps=2)
    trainer_of(tmp_path, "swapped-negatives", gradient_accumulation_steps=2)


def test_a_trainer_without_pairs_says_what_it_needs(tmp_path):
    from transformers import Trainer, TrainingArguments

    from attention_collapse.prevention.trainer import PreventionMixin

    class Bare(PreventionMixin, Trainer):
        pass

    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    trainer = Bare(Taught(), arguments)
    with pytest.raises(NotImplementedError, match="pairs"):
        trainer.compute_loss(trainer.model.train(), {})


@pytest.mark.parametrize("name", METHODS)
def test_lightning_trains_as_a_loop_of_one_s_own(tmp_path, name):
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is an extra and is not installed")
    from attention_collapse.prevention.lightning_callback import PreventionCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Taught()
            self.method = METHODS[name](self.model)

        def training_step(self, given, _index):
            return self.method.loss(self.model, *given)

        def configure_optimizers(self):
            return torch.optim.SGD([*self.model.parameters(), *self.method.parameters()], lr=0.1)

    module = Module()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), SIZE)
    callback = PreventionCallback(module.method)
    lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[callback], default_root_dir=tmp_path,
    ).fit(module, loader)  # fmt: skip
    expected = by_hand(name)
    assert all(torch.allclose(v, expected[key], atol=1e-6) for key, v in module.model.state_dict().items())
    assert set(callback.state_dict()) == set(module.method.state_dict())
