"""Attention collapse, seen while it comes: a small model in training with a monitor, in less than a minute.

python examples/monitor_training.py [FOLDER]

An image and a text are vectors that each stand for one of 32 things; they match if they stand for the same. Only both
together say so. In the text, a further number says it too, in 19 of 20 pairs. The model learns that number first and
leaves the image unused, at an accuracy that looks fine; the monitor says so. A model this small learns the image in the
end, and the alarm is over. A second model is trained without the cue.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from attention_collapse.monitor import HeldOut, Monitor
from attention_collapse.report.figures import save, use_style

THINGS, WIDTH, STEPS = 32, 16, 2000


def draw(n: int, cue: float, seed: int) -> HeldOut:
    """Pairs with fresh noise; the cue agrees with the label as often as it says."""
    fixed, rng = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    looks, words = torch.randn(2, THINGS, WIDTH, generator=fixed)
    thing, label = torch.randint(THINGS, (n,), generator=rng), torch.randint(2, (n,), generator=rng)
    other = (thing + torch.randint(1, THINGS, (n,), generator=rng)) % THINGS
    said = torch.where(label == 1, thing, other)
    agrees = torch.rand(n, generator=rng) < cue
    says = torch.where(agrees, label, 1 - label) * 2.0 - 1
    noise = 0.3 * torch.randn(2, n, WIDTH, generator=rng)
    return HeldOut(looks[thing] + noise[0], torch.cat([words[said] + noise[1], says[:, None]], 1), label)


class Fusion(nn.Module):
    """Stands for your model."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * WIDTH + 1, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)
        )

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([image, text], 1)).squeeze(1)


def train(cue: float) -> Monitor:
    torch.manual_seed(0)
    model = Fusion()
    optimizer = torch.optim.Adam(model.parameters(), 3e-4)
    # -- these lines are all that a training loop needs, with monitor.step below ---------------------------------
    held_out, hard = draw(500, cue, seed=1), draw(500, 0.5, seed=2)  # as trained; and where the cue says nothing
    # A step takes a millisecond here, so that checks are dear beside it; without `every` they keep to 5 % of the time.
    monitor = Monitor(model, held_out, hard=hard, every=100)
    for step in range(STEPS + 1):
        monitor.step(step)  # None, or a dict for your log: mlflow.log_metrics(values, step=step)
        image, text, label = draw(32, cue, seed=1000 + step)
        loss = nn.functional.binary_cross_entropy_with_logits(model(image, text), label.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return monitor


def curves(monitors: dict[str, Monitor], stem: Path) -> list[Path]:
    """One panel per model: accuracy as trained, without the image, on hard pairs; reliance; when an alarm rang."""
    from matplotlib.figure import Figure

    use_style()
    figure = Figure(figsize=(6.75, 2.6), layout="constrained")
    lines = {"accuracy": "as trained", "accuracy_image_swapped": "another pair's image", "accuracy_hard": "hard pairs",
             "reliance_share": "reliance share of the image"}  # fmt: skip
    panels = figure.subplots(1, len(monitors), sharey=True)
    for axes, (title, monitor) in zip(panels, monitors.items(), strict=True):
        steps = [values["step"] for values in monitor.history]
        for number, (name, label) in enumerate(lines.items()):
            low, high = ([values[f"{name}_ci_{end}"] for values in monitor.history] for end in ("low", "high"))
            shown = [values[name] for values in monitor.history]
            axes.plot(steps, shown, ls="--" if "share" in name else "-", label=label)
            axes.fill_between(steps, low, high, color=f"C{number}", alpha=0.15, lw=0)
        for alarm in monitor.alarms:
            if alarm.modality == "image":
                axes.axvspan(alarm.since, alarm.ended_at or steps[-1], color="0.92", zorder=0)
                axes.axvline(alarm.rang_at, color="0.4", lw=0.8)
                axes.annotate("alarm", (alarm.rang_at, 0.02), xytext=(3, 0), textcoords="offset points", fontsize=7)
        axes.set(title=title, xlabel="step", ylim=(0, 1.02))
    panels[0].set_ylabel("accuracy, share")
    panels[-1].legend(loc="lower right")
    return save(figure, stem)


def main(folder: Path) -> None:
    monitors = {"a cue in the text, 19 of 20 right": train(0.95), "no cue": train(0.5)}
    for title, monitor in monitors.items():
        print(f"-- {title} --\n{monitor.summary()}")
    for path in curves(monitors, folder / "monitor_training"):
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
