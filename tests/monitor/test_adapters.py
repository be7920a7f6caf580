"""The callbacks, in the real Trainers: values in their logs, training unchanged, and a resumed run goes on."""

import json

import pytest
import torch
from torch import nn
from watched import pairs

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.monitor import Monitor


class Both(nn.Module):
    """A model of both, as transformers' Trainer wants it: keyword inputs, and a loss with them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def score(self, image, text):
        return self.body(torch.cat([image, text], 1)).squeeze(1)

    def forward(self, image, text, labels):
        logits = self.score(image, text)
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, labels.float()), "logits": logits}


def trainer_of(folder, steps, monitored=True, **options):
    from transformers import Trainer, TrainingArguments

    from attention_collapse.monitor.trainer import MonitorCallback

    torch.manual_seed(0)
    model, data = Both(), pairs(64, 9)
    rows = [{"image": i, "text": t, "labels": y} for i, t, y in zip(*data, strict=True)]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=16, save_steps=4, logging_steps=3,
        report_to=[], use_cpu=True, disable_tqdm=True, learning_rate=0.01, lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=rows)
    if not monitored:
        return trainer, None
    monitor = Monitor(model.score, pairs(), every=2)
    MonitorCallback(monitor, **options).attach(trainer)
    return trainer, monitor


def test_transformers_trainer_logs_it_and_trains_as_before(tmp_path):
    trainer, monitor = trainer_of(tmp_path / "with", 8)
    trainer.train()
    plain, _ = trainer_of(tmp_path / "without", 8, monitored=False)
    plain.train()
    for one, other in zip(trainer.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)
    logged = [entry for entry in trainer.state.log_history if "monitor/accuracy" in entry]
    assert [entry["step"] for entry in logged] == [0, 2, 4, 6, 8]
    assert [entry["monitor/accuracy"] for entry in logged] == [values["accuracy"] for values in monitor.history]
    losses = [entry["step"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == [entry["step"] for entry in plain.state.log_history if "loss" in entry]


def test_transformers_trainer_resumes_it(tmp_path):
    trainer, whole = trainer_of(tmp_path, 8)
    trainer.train()
    again, monitor = trainer_of(tmp_path, 8)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert str(monitor.history) == str(whole.history)

    anew, fresh = trainer_of(tmp_path, 8, resume=False)
    anew.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert [values["step"] for values in fresh.history] == [4, 6, 8]

    (tmp_path / "checkpoint-4" / "attention_collapse_monitor.json").unlink()
    lost, _ = trainer_of(tmp_path, 8)
    with pytest.raises(DataError, match="goes on at step 4, and there is no"):
        lost.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_a_callback_without_its_trainer_is_an_error(tmp_path):
    from attention_collapse.monitor.trainer import MonitorCallback

    trainer, _ = trainer_of(tmp_path, 8, monitored=False)
    trainer.add_callback(MonitorCallback(Monitor(trainer.model.score, pairs(), every=2)))
    with pytest.raises(ParamsError, match="whose Trainer is not known"):
        trainer.train()


def lightning_run(folder, steps, resume=None, monitored=True):
    pytest.importorskip("lightning.pytorch", reason="lightning is not installed (requirements.txt pins it for tests)")
    import lightning.pytorch as L
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from attention_collapse.monitor.lightning_callback import MonitorCallback

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Both()

        def training_step(self, batch, _):
            return self.model(*batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.01)

    torch.manual_seed(0)
    module = Module()
    monitor = Monitor(module.model.score, pairs(), every=2, model=module)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*pairs(64, 9)), 16)
    callbacks = [MonitorCallback(monitor)] if monitored else []
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=CSVLogger(folder), enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, ModelCheckpoint(folder / "kept", every_n_train_steps=4)],
    )  # fmt: skip
    trainer.fit(module, loader, ckpt_path=resume)
    return module, monitor, trainer


def test_lightning_logs_it_trains_as_before_and_resumes_it(tmp_path):
    module, monitor, _ = lightning_run(tmp_path / "with", 8)
    plain, _, _ = lightning_run(tmp_path / "without", 8, monitored=False)
    for one, other in zip(module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [values["step"] for values in monitor.history] == [0, 2, 4, 6, 8]
    [file] = (tmp_path / "with").rglob("metrics.csv")
    assert "monitor/accuracy" in file.read_text().splitlines()[0] and len(file.read_text().splitlines()) == 6

    lightning_run(tmp_path / "cut", 4)
    [kept] = (tmp_path / "cut" / "kept").iterdir()
    _, resumed, _ = lightning_run(tmp_path / "cut", 8, resume=kept)
    one, other = ([json.dumps(values) for values in found.history] for found in (resumed, monitor))
    assert len(one) == len(other) == 5 and one[:3] == other[:3]  # Lightning restores no random numbers for dropout
