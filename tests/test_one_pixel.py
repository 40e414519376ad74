import os
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from foolbench.attacks.base import Perturb
from foolbench.attacks.evolving.differential import draw_partners, into_range, latin_hypercube, mutate, select
from foolbench.attacks.levels import EIGHT_BITS
from foolbench.attacks.one_pixel import OnePixel, _Canvas, _write
from scipy.optimize import differential_evolution
from torch import Tensor

Victim = Callable[[Tensor], Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gray_images(count: int, channels: int, side: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side), generator=generator(seed)) / 255


def perturb(images: Tensor, labels: Tensor | None = None, targets: Tensor | None = None) -> Perturb:
    labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    return Perturb(images, labels, images[:1], images.mean(0), targets)


def attack(settings: OnePixel, task: Perturb, victim: Victim, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Finals, and what each task spent."""
    spent = torch.zeros(len(task.images), dtype=torch.int64)
    search = settings.search(task, generator(seed))
    try:
        query = next(search)
        while True:
            spent += torch.bincount(query.owners, minlength=len(spent))
            changed = (query.images != task.images[query.owners]).any(1).flatten(1).sum(1)
            assert int(changed.max()) <= settings.pixels
            query = search.send(victim(query.images))
    except StopIteration as finished:
        return finished.value, spent


def fatal_pixel(images: Tensor) -> Tensor:
    """Class 0, unless the pixel at row 5, column 11 is red."""
    red = (images[:, 0, 5, 11] > 0.85) & (images[:, 1:, 5, 11] < 0.3).all(1)
    return torch.where(red[:, None], torch.tensor([0.2, 0.8]), torch.tensor([0.9, 0.1]))


def test_partners_are_distinct_and_uniform() -> None:
    drawn = draw_partners(6000, 4, generator())
    rows = torch.cat([drawn, torch.arange(4).expand(1, 6000, 4)]).permute(1, 2, 0)
    assert (rows.sort(2).values == torch.arange(4)).all()
    first = rows[:, 0, :3].tolist()
    counts = [sum(r == list(p) for r in first) for p in permutations([1, 2, 3])]
    assert all(abs(n - 1000) < 130 for n in counts)  # 4.5 standard deviations


def test_a_step_equals_a_plain_loop() -> None:
    members, fitness = torch.randn((3, 7, 5), generator=generator(1)), torch.rand((3, 7), generator=generator(2))
    partners, childrens = draw_partners(3, 7, generator(3)), torch.rand((3, 7), generator=generator(4))
    best = members[torch.arange(3), fitness.argmax(1)]
    for anchor in (None, best):
        children = mutate(members, partners, 0.5, anchor)
        survivors, kept = select(members, fitness, children, childrens)
        m, f, r, c = members.numpy(), fitness.numpy(), partners.numpy(), childrens.numpy()
        for t in range(3):
            for i in range(7):
                base = m[t, r[0, t, i]] if anchor is None else m[t, f[t].argmax()]
                child = base + np.float32(0.5) * (m[t, r[1, t, i]] - m[t, r[2, t, i]])
                better = c[t, i] > f[t, i]
                assert np.array_equal(survivors[t, i].numpy(), child if better else m[t, i])
                assert kept[t, i] == max(c[t, i], f[t, i])


def test_it_optimises_as_well_as_scipy() -> None:
    """Same first populations, same number of evaluations; medians of the best value on a tilted, shifted bowl."""
    scales = np.array([1.0, 3.0, 10.0, 30.0, 100.0])

    def bowl(x: np.ndarray) -> np.ndarray:
        return (scales[:, None] * (x - 0.7 + 0.2 * np.roll(x, 1, 0)) ** 2).sum(0)

    ours, theirs = [], []
    for seed in range(9):
        first = np.random.default_rng(seed).uniform(-4, 4, (50, 5))
        reference = differential_evolution(
            bowl, [(-4, 4)] * 5, strategy="rand1bin", recombination=1, mutation=0.5, init=first, maxiter=60, tol=0,  # pyright: ignore[reportArgumentType]
            polish=False, updating="deferred", vectorized=True, rng=seed,
        )  # fmt: skip
        theirs.append(np.log10(reference.fun))
        members, rng = torch.from_numpy(first)[None], generator(seed)
        fitness = -torch.from_numpy(bowl(first.T))[None]
        for _ in range(60):
            children = mutate(members, draw_partners(1, 50, rng), 0.5).clamp(-4, 4)
            members, fitness = select(members, fitness, children, -torch.from_numpy(bowl(children[0].numpy().T))[None])
        ours.append(np.log10(-float(fitness.max())))
    assert abs(np.median(ours) - np.median(theirs)) < 0.5
    assert np.median(ours) < -3


def test_painting_equals_a_plain_loop() -> None:
    images = gray_images(3, 3, 4)
    genes = torch.rand((3, 50, 10), generator=generator(5)) * torch.tensor([4.0, 4, 255, 255, 255] * 2)
    genes[:, 0] = torch.tensor([4.0, 4, 255, 255, 255, 0, 0, 254.4, 254.6, 0])  # the upper bounds themselves
    painted = images.unsqueeze(1).repeat(1, 50, 1, 1, 1)
    _write(painted, genes, EIGHT_BITS)
    for t in range(3):
        for p in range(50):
            expected = images[t].clone()
            for x, y, *colours in genes[t, p].reshape(2, 5).tolist():  # later pixels overwrite earlier ones
                expected[:, min(int(y), 3), min(int(x), 3)] = torch.tensor(colours).round() / 255
            assert torch.equal(painted[t, p], expected)


def test_repainting_equals_painting_afresh() -> None:
    images = gray_images(5, 3, 4)
    canvas = _Canvas(perturb(images), 20)
    for step, active in enumerate(([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 2, 3], [0, 2, 3], [0, 2], [2])):
        rows = torch.tensor(active)
        genes = torch.rand((len(rows), 20, 15), generator=generator(step))
        genes *= torch.tensor([4.0, 4, 255, 255, 255] * 3)
        afresh = images[rows].unsqueeze(1).repeat(1, 20, 1, 1, 1)
        _write(afresh, genes, EIGHT_BITS)
        assert torch.equal(canvas.paint(rows, genes), afresh)


def test_a_latin_hypercube_fills_each_stratum_once() -> None:
    drawn = latin_hypercube(3, 40, 5, generator())
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert torch.equal((drawn * 40).long().sort(1).values, torch.arange(40)[None, :, None].expand(3, 40, 5))
    assert not torch.equal(drawn[0], drawn[1])
    assert abs(float((drawn * 40 % 1).mean()) - 0.5) < 0.05  # uniform within a stratum


def test_genes_come_back_into_range() -> None:
    bounds = torch.tensor([10.0, 255.0])
    genes = torch.tensor([[-3.0, 300.0], [4.0, -1.0], [10.0, 0.0]]).repeat(1000, 1)[None]
    nearest = torch.tensor([[0.0, 255.0], [4.0, 0.0], [10.0, 0.0]]).repeat(1000, 1)[None]
    assert torch.equal(into_range(genes, bounds), nearest)
    redrawn = into_range(genes, bounds, generator())
    inside = (genes >= 0) & (genes <= bounds)
    assert torch.equal(redrawn[inside], genes[inside])
    assert ((redrawn >= 0) & (redrawn <= bounds)).all()
    assert abs(float(redrawn[0, 0::3, 0].mean()) - 5) < 0.4  # 4 standard errors
    assert abs(float(redrawn[0, 1::3, 1].mean()) - 127.5) < 10


def test_targeted_it_stops_at_its_own_target_alone() -> None:
    """The first row's brightness speaks for class 1, the last row's for class 2: either fools, one is aimed at."""

    def victim(images: Tensor) -> Tensor:
        first, last = (images[:, 0, row].amax(1) for row in (0, 7))
        return torch.stack([torch.full_like(first, 0.6), first, last], 1).mul(4).softmax(1)

    targets = torch.tensor([1, 2, 2, 1, 2])
    task = perturb(torch.zeros(5, 1, 8, 8), targets=targets)
    finals, _ = attack(OnePixel(targeted=True, population=20), task, victim)
    assert victim(finals).argmax(1).tolist() == targets.tolist()
    untargeted, _ = attack(OnePixel(population=20), task, victim)
    assert victim(untargeted).argmax(1).tolist() != targets.tolist()


def test_out_of_reach_of_its_target_it_returns_what_came_nearest() -> None:
    """Class 1 is easily reached; of class 2, which grows with brightness, there is never enough."""
    seen: list[Tensor] = []

    def victim(images: Tensor) -> Tensor:
        near = 0.2 * images.flatten(1).amax(1)
        seen.append(near)
        return torch.stack([0.1 * torch.ones_like(near), 0.9 - near, near], 1)

    settings = OnePixel(targeted=True, population=20, iterations=9)
    finals, spent = attack(settings, perturb(torch.zeros(1, 1, 8, 8), targets=torch.tensor([2])), victim)
    assert int(spent) == 200
    assert float(victim(finals)[0, 2]) == float(torch.cat(seen[:-1]).max())
    with pytest.raises(ValueError, match="expected a task with targets for a targeted attack, got None"):
        attack(settings, perturb(torch.zeros(1, 1, 8, 8)), victim)


@pytest.mark.parametrize("first", ["normal", "uniform", "latin"])
def test_the_first_population_is_as_said(first: Literal["normal", "uniform", "latin"]) -> None:
    genes = OnePixel(pixels=2, population=2000, first=first)._first(torch.tensor([8.0, 4, 255] * 2), 1, generator())[0]
    for x, y, colour in genes.T.split(3):
        assert abs(float(x.mean()) - 4) < 0.25
        assert abs(float(y.max()) - 4) < 0.1
        inside = ((colour >= 0) & (colour <= 255)).float().mean()
        assert float(inside) == 1 if first != "normal" else abs(float(inside) - 0.684) < 0.05
        even = (colour / 255 * 2000).long().unique().numel() == 2000
        assert even == (first == "latin")


def test_it_finds_the_fatal_pixel_and_stops() -> None:
    task = perturb(gray_images(6, 3, 16))
    task.images[:, :, 5, 11] = 0.5
    before = task.images.clone()
    finals, spent = attack(OnePixel(), task, fatal_pixel)
    changed = (finals != task.images).any(1)
    assert changed.flatten(1).sum(1).tolist() == [1] * 6
    assert changed[:, 5, 11].all()
    assert (fatal_pixel(finals)[:, 1] > 0.5).all()
    assert (spent % 400 == 0).all()
    assert len(set(spent.tolist())) > 1  # each task left when it was done
    assert torch.equal(task.images, before)
    assert torch.equal(attack(OnePixel(), task, fatal_pixel)[0], finals)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_deaf_victim_is_never_fooled(channels: int) -> None:
    task = perturb(gray_images(3, channels, 8))
    deaf = torch.tensor([0.5, 0.3, 0.2])
    finals, spent = attack(OnePixel(3, 20, 9), task, lambda images: deaf.expand(len(images), 3))
    assert spent.tolist() == [200] * 3
    assert ((finals != task.images).any(1).flatten(1).sum(1) <= 3).all()
    assert torch.equal(finals, (finals * 255).round() / 255)


def test_being_rejected_is_no_escape() -> None:
    """On black images: any pixel of the top half gets the image rejected, which lowers the label's probability most;
    the wrong class grows towards one gray pixel of the bottom half and wins only there."""

    def victim(images: Tensor) -> Tensor:
        level, place = images.flatten(1).max(1)
        row, column = place // 8, place % 8
        wrong = 0.5 * (-((row - 6) ** 2 + (column - 3) ** 2) / 8 - ((level - 0.4) / 0.3) ** 2).exp()
        top = (row < 4) & (level > 0)
        return torch.stack([torch.where(top, 0.01, 0.9 - wrong), torch.where(top, 0.04, wrong)], 1)

    finals, _ = attack(OnePixel(population=40), perturb(torch.zeros(8, 1, 8, 8)), victim)
    assert (finals[:, 0, 6, 3] > 0).all()
    assert (victim(finals)[:, 1] > 0.45).all()


def test_without_success_the_best_candidate_is_returned() -> None:
    """The brighter and the closer to the last row a pixel, the likelier the wrong class, but never likely enough."""
    seen: list[Tensor] = []

    def victim(images: Tensor) -> Tensor:
        wrong = 0.4 * (images[:, 0].amax(2) * torch.linspace(0, 1, 16)).amax(1)
        seen.append(wrong)
        return torch.stack([1 - wrong, wrong], 1)

    trials: list[tuple[Literal["rand1", "best1"], int]] = [("rand1", 2), ("rand1", 100), ("best1", 100)]
    for strategy, iterations in trials:
        seen.clear()
        settings = OnePixel(population=60, iterations=iterations, strategy=strategy, f=(0.5, 1.0))
        finals, spent = attack(settings, perturb(torch.zeros(1, 1, 16, 16)), victim)
        assert int(spent) == 60 * (iterations + 1)
        best = float(torch.cat(seen).max())
        assert float(victim(finals)[0, 1]) == best
        assert iterations < 100 or best == pytest.approx(0.4)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="expected pixels >= 1, population >= 4 and iterations >= 0, got 1, 3 and 100"):
        OnePixel(population=3)
    with pytest.raises(ValueError, match="expected first to be one of normal, uniform, latin, got 'gauss'"):
        OnePixel(first="gauss")  # pyright: ignore[reportArgumentType]


def shared_data() -> Path | None:
    named = os.environ.get("FOOLBENCH_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.mark.slow
def test_a_published_network_falls_as_often_as_published() -> None:
    """LeNet of Hyperparticle/one-pixel-attack-keras: 63% of 100 images, by DE best/1 with 75 iterations."""
    import onnxruntime

    data = shared_data()
    if data is None:
        pytest.skip("needs the shared data: set FOOLBENCH_TEST_DATA")
    session = onnxruntime.InferenceSession(
        data / "onnx" / "cifar10_onepixel_lenet.onnx", providers=["CPUExecutionProvider"]
    )
    mean = np.array([125.307, 122.95, 113.865], np.float32).reshape(3, 1, 1)
    std = np.array([62.9932, 62.0887, 66.7048], np.float32).reshape(3, 1, 1)

    def victim(images: Tensor) -> Tensor:
        pixels = (images * 255).round().numpy()
        parts = np.array_split(pixels, len(pixels) // 512 + 1)
        logits = [np.asarray(session.run(None, {"input": (part - mean) / std})[0]) for part in parts]
        return torch.from_numpy(np.concatenate(logits)).softmax(1)

    with np.load(data / "cifar10" / "test1000.npz") as archive:
        images = torch.from_numpy(archive["x"][:60].transpose(0, 3, 1, 2) / np.float32(255))
        labels = torch.from_numpy(archive["y"][:60].astype(np.int64))
    right = (victim(images).argmax(1) == labels).nonzero().squeeze(1)[:30]
    task = perturb(images[right], labels[right])
    finals, spent = attack(OnePixel(), task, victim)
    fooled = victim(finals).argmax(1) != task.labels
    assert 14 <= int(fooled.sum()) <= 25  # 63% of 30, give or take twice the standard error of both samples
    assert (spent[~fooled] == 40400).all()
