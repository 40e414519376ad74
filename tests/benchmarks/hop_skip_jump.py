"""HopSkipJump beside ART's, told labels alone, at equal queries: how many images each takes within an L∞ limit.

    uv run --group peers python tests/benchmarks/hop_skip_jump.py

Both begin at uniform noise, ours also at training images. ART has no gray levels and no ε to stop at: its final images
are rounded, and count where they are within ε and have another label; the queries of both are counted by the victim.
The victim rounds to the data's 17 gray levels, as all victims here do, and ART's points around the boundary are nearer
than that: most of the difference.
"""
# The peers are in a dependency group of their own: uv run --group peers …
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import time
from importlib.resources import files

import numpy as np
import onnxruntime
import torch
from foolbench.attacks.answers import label_alone
from foolbench.attacks.base import Perturb
from foolbench.attacks.hop_skip_jump import HopSkipJump
from foolbench.attacks.levels import Levels
from foolbench.bench.battery.battery import read_battery
from torch import Tensor

STEPS = (2, 3, 4)
"""ε, in gray levels of the digits."""


class Victim:
    """A panel model of digits-v1 that rounds to its levels, tells labels one-hot, and counts."""

    def __init__(self, name: str, levels: Levels) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = str(files("foolbench.models.panel") / f"digits-{name}.onnx")
        self.session = onnxruntime.InferenceSession(path, options)
        self.levels, self.asked = levels, 0

    def __call__(self, images: Tensor) -> Tensor:
        """`(n, 1, 8, 8)` in [0, 1] -> `(n, 10)`, 1 at the label."""
        self.asked += len(images)
        feed = {self.session.get_inputs()[0].name: self.levels.rounded(images).numpy()}
        return label_alone(torch.from_numpy(self.session.run(None, feed)[0]).softmax(1))


def ours(victim: Victim, task: Perturb, steps: int, queries: int) -> Tensor:
    """The search of this package."""
    search = HopSkipJump(steps / task.levels.top, queries, samples=50).search(task, torch.Generator().manual_seed(0))
    query = next(search)
    try:
        while True:
            query = search.send(victim(query.images))
    except StopIteration as finished:
        return finished.value


def art(victim: Victim, task: Perturb, queries: int) -> Tensor:
    """art.attacks.evasion.HopSkipJump with its own defaults, as many iterations as the queries allow."""
    from art.attacks.evasion import HopSkipJump as Theirs
    from art.estimators.classification import BlackBoxClassifier

    def predict(images: np.ndarray) -> np.ndarray:
        return victim(torch.from_numpy(np.asarray(images, dtype=np.float32))).numpy()

    model = BlackBoxClassifier(predict, (1, 8, 8), 10, clip_values=(0.0, 1.0))
    # 100 · √t points at the t-th of its iterations, and about 20 queries of bisection and steps.
    turns = max(t for t in range(1, 200) if sum(100 * k**0.5 + 20 for k in range(1, t + 1)) <= queries or t == 1)
    attack = Theirs(model, norm=np.inf, max_iter=turns, init_eval=100, max_eval=10_000, init_size=100, verbose=False)
    np.random.seed(0)
    return torch.from_numpy(attack.generate(task.images.numpy()))


def main() -> None:
    """Print a row for each model, ε and attack."""
    parser = argparse.ArgumentParser(description="HopSkipJump beside ART's, at equal queries")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--queries", type=int, default=2000)
    chosen = parser.parse_args()
    battery = read_battery("digits-v1")
    data, levels = battery.load(), battery.spec.facts.levels
    images = torch.tensor(data.images[: chosen.images]).float() / 255
    donors, mean = torch.tensor(data.donors).float() / 255, torch.as_tensor(data.mean)
    print("model    ε      attack  taken  queries an image  seconds")
    for name in ("lenet-a", "resnet"):
        victim = Victim(name, levels)
        labels = victim(images).argmax(1)
        task = Perturb(images, labels, donors, mean, levels=levels)
        victim.asked, started = 0, time.perf_counter()
        theirs = levels.rounded(art(victim, task, chosen.queries).float().clamp(0, 1))
        spent, seconds = victim.asked, time.perf_counter() - started
        for steps in STEPS:
            row = f"{name:8} {steps}/{levels.top}  "
            report(victim, task, theirs, steps, f"{row}  art    ", spent, seconds)
            victim.asked, started = 0, time.perf_counter()
            finals = levels.rounded(ours(victim, task, steps, chosen.queries))
            report(victim, task, finals, steps, f"{row}  ours   ", victim.asked, time.perf_counter() - started)


def report(victim: Victim, task: Perturb, finals: Tensor, steps: int, row: str, asked: int, seconds: float) -> None:
    """One line: images that have another label within ε, by the judge's rule."""
    near = (finals - task.images).abs().flatten(1).amax(1) <= steps / task.levels.top + task.levels.slack
    taken = int((near & (victim(finals).argmax(1) != task.labels)).sum())
    print(f"{row} {taken:3}/{len(finals)}  {asked / len(finals):8,.0f}          {seconds:5.1f}", flush=True)


if __name__ == "__main__":
    main()
