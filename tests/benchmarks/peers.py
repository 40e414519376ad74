"""The same attacks in other libraries, at a query budget that is stated, with success counted the same way.

Each function takes a victim and images, runs one library's own attack and returns what it cost. A library that is not
installed, or that fails with the versions at hand, is told of and left out.
"""
# The peers are in a dependency group of their own: uv run --group peers …
# pyright: reportMissingImports=false

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from victims import Victim


@dataclass(frozen=True)
class Cost:
    """What an attack cost and how often it succeeded."""

    seconds: float
    queries: int
    success: float


class Counting(nn.Module):
    """Counts the images that pass through."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module, self.images = module, 0

    def forward(self, images: Tensor) -> Tensor:
        """Pass them on."""
        self.images += len(images)
        return self.module(images)


def _measured(victim: Victim, images: Tensor, labels: Tensor, run: Callable[[Counting], Tensor]) -> Cost:
    model = Counting(victim.module).eval()
    started = time.perf_counter()
    finals = run(model)
    seconds = time.perf_counter() - started
    rounded = finals.to(torch.float32).clamp(0, 1).mul(255).round().div(255)
    label = victim.classifier.probabilities(rounded, torch.Generator()).argmax(1)
    return Cost(seconds, model.images, float((label != labels).float().mean()))


def torchattacks_one_pixel(victim: Victim, images: Tensor, labels: Tensor, population: int, iterations: int) -> Cost:
    """torchattacks.OnePixel."""
    import torchattacks

    def run(model: Counting) -> Tensor:
        return torchattacks.OnePixel(model, pixels=1, steps=iterations, popsize=population, inf_batch=400)(
            images, labels
        )

    return _measured(victim, images, labels, run)


def art_one_pixel(victim: Victim, images: Tensor, labels: Tensor, population: int, iterations: int) -> Cost:
    """art.attacks.evasion.PixelAttack with differential evolution; its population is fixed at about 400."""
    from art.attacks.evasion import PixelAttack

    def run(model: Counting) -> Tensor:
        attack = PixelAttack(_art(model, victim, images), th=1, es=1, max_iter=iterations, verbose=False)
        onehot = np.eye(victim.classifier.classes, dtype=np.float32)[labels.numpy()]
        return torch.from_numpy(attack.generate(images.numpy(), onehot))

    return _measured(victim, images, labels, run)


def scipy_one_pixel(victim: Victim, images: Tensor, labels: Tensor, population: int, iterations: int) -> Cost:
    """scipy.optimize.differential_evolution, vectorised over the population, with the paper's strategy."""
    from scipy.optimize import differential_evolution

    c, h, w = images.shape[1:]
    bounds = [(0, h - 1e-6), (0, w - 1e-6), *[(0.0, 1.0)] * c]

    def run(model: Counting) -> Tensor:
        def render(image: Tensor, genes: np.ndarray) -> Tensor:
            out = image.repeat(genes.shape[1], 1, 1, 1)
            rows = torch.arange(genes.shape[1])
            y, x = torch.from_numpy(genes[0]).long(), torch.from_numpy(genes[1]).long()
            out[rows, :, y, x] = torch.from_numpy(genes[2:].T).to(torch.float32)
            return out

        def one(image: Tensor, label: int) -> Tensor:
            fooled: list[Tensor] = []

            def fitness(genes: np.ndarray) -> np.ndarray:
                tried = render(image, genes.reshape(len(bounds), -1))
                with torch.inference_mode():
                    probabilities = model(tried).softmax(1)
                hits = (probabilities.argmax(1) != label).nonzero()
                if len(hits) and not fooled:
                    fooled.append(tried[hits[0]])
                return probabilities[:, label].double().numpy()

            result = differential_evolution(
                fitness, bounds, strategy="rand1bin", mutation=0.5, recombination=1.0, maxiter=iterations, tol=0,
                atol=-1,
                popsize=max(1, population // len(bounds)), init="random", polish=False, vectorized=True, rng=1,
                updating="deferred", callback=lambda intermediate_result: bool(fooled),
            )  # fmt: skip
            return fooled[0] if fooled else render(image, np.asarray(result.x).reshape(-1, 1))

        return torch.cat([one(images[i : i + 1], int(labels[i])) for i in range(len(images))])

    return _measured(victim, images, labels, run)


def torchattacks_fgsm(victim: Victim, images: Tensor, labels: Tensor, epsilons: list[float]) -> Cost:
    """torchattacks.FGSM, once an ε: it knows no grid. Success at the largest ε."""
    import torchattacks

    def run(model: Counting) -> Tensor:
        return [torchattacks.FGSM(model, eps=epsilon)(images, labels) for epsilon in epsilons][-1]

    return _measured(victim, images, labels, run)


def art_fgsm(victim: Victim, images: Tensor, labels: Tensor, epsilons: list[float]) -> Cost:
    """art.attacks.evasion.FastGradientMethod, once an ε. Success at the largest ε."""
    from art.attacks.evasion import FastGradientMethod

    def run(model: Counting) -> Tensor:
        classifier = _art(model, victim, images)
        onehot = np.eye(victim.classifier.classes, dtype=np.float32)[labels.numpy()]
        made = [
            FastGradientMethod(classifier, eps=e, batch_size=256).generate(images.numpy(), onehot) for e in epsilons
        ]
        return torch.from_numpy(made[-1])

    return _measured(victim, images, labels, run)


def foolbox_fgsm(victim: Victim, images: Tensor, labels: Tensor, epsilons: list[float]) -> Cost:
    """foolbox.attacks.FGSM over its own grid of ε. Success at the largest ε."""
    import foolbox

    def run(model: Counting) -> Tensor:
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        _, clipped, _ = foolbox.attacks.FGSM()(wrapped, images, labels, epsilons=epsilons)
        return clipped[-1]

    return _measured(victim, images, labels, run)


def ribs_evolution(victim: Victim, population: int, generations: int, rng_seed: int = 1) -> Cost:
    """pyribs as MAP-Elites with one cell a class: Gaussian mutation, since it has no polynomial one. Success: share of
    classes at 0.99. One ask and tell a class, since an archive takes each solution into one cell only."""
    from ribs.archives import GridArchive
    from ribs.emitters import GaussianEmitter

    c, h, w = victim.classifier.shape
    k, size = victim.classifier.classes, c * h * w
    model = Counting(victim.module).eval()

    def evolve(generations: int) -> GridArchive:
        archive = GridArchive(solution_dim=size, dims=[k], ranges=[(0, k)], seed=rng_seed)
        emitter = GaussianEmitter(
            archive, sigma=0.1, x0=np.full(size, 0.5), bounds=[(0.0, 1.0)] * size, batch_size=population, seed=rng_seed
        )
        for _ in range(generations):
            solutions = emitter.ask()
            images = torch.from_numpy(solutions).to(torch.float32).view(-1, c, h, w)
            with torch.inference_mode():
                probabilities = model(images).softmax(1).double().numpy()
            for target in range(k):
                measures = np.full((len(solutions), 1), target + 0.5)
                archive.add(solutions, probabilities[:, target], measures)
        return archive

    evolve(2)  # it compiles on first use, for seconds; ours has its first time outside of the clock as well
    model.images = 0
    started = time.perf_counter()
    best = evolve(generations).data("objective")
    seconds = time.perf_counter() - started
    return Cost(seconds, model.images, float((np.asarray(best) >= 0.99).sum() / k))


def neat_cppn(victim: Victim, population: int, generations: int) -> Cost:
    """neat-python: mutate and render a CPPN an image, pixel by pixel, its own genome and network. Success: share of
    classes at 0.99 with the same MAP-Elites rule on top."""
    import copy
    import os
    import random
    import tempfile

    import neat

    c, h, w = victim.classifier.shape
    k = victim.classifier.classes
    with tempfile.NamedTemporaryFile("w", suffix=".ini", delete=False) as file:
        file.write(_NEAT.format(outputs=c))
    try:
        config = neat.Config(
            neat.DefaultGenome, neat.DefaultReproduction, neat.DefaultSpeciesSet, neat.DefaultStagnation, file.name
        )
    finally:
        os.unlink(file.name)
    random.seed(1)
    config.genome_config.innovation_tracker = neat.innovation.InnovationTracker()
    grid = [
        (x, y, ((2 * x / (w - 1) - 1) ** 2 + (2 * y / (h - 1) - 1) ** 2) ** 0.5, 1.0)
        for y in range(h)
        for x in range(w)
    ]
    model = Counting(victim.module).eval()

    def fresh() -> neat.DefaultGenome:
        genome = neat.DefaultGenome(0)
        genome.configure_new(config.genome_config)
        return genome

    def child(parent: neat.DefaultGenome) -> neat.DefaultGenome:
        made = copy.deepcopy(parent)
        made.mutate(config.genome_config)
        return made

    def render(genome: neat.DefaultGenome) -> list[list[float]]:
        network = neat.nn.FeedForwardNetwork.create(genome, config)
        return [[abs(v) for v in network.activate(at)] for at in grid]

    started = time.perf_counter()
    best: list[tuple[float, neat.DefaultGenome | None]] = [(0.0, None)] * k
    for generation in range(generations):
        parents = [genome for _, genome in best if genome is not None]
        genomes = [
            fresh() if generation == 0 or not parents else child(random.choice(parents)) for _ in range(population)
        ]
        images = torch.tensor([render(genome) for genome in genomes]).clamp(0, 1).transpose(1, 2).reshape(-1, c, h, w)
        with torch.inference_mode():
            probabilities = model(images).softmax(1)
        top, at = probabilities.max(0)
        for target in range(k):
            if float(top[target]) > best[target][0]:
                best[target] = (float(top[target]), genomes[int(at[target])])
    return Cost(time.perf_counter() - started, model.images, sum(b[0] >= 0.99 for b in best) / k)


def _art(model: Counting, victim: Victim, images: Tensor):
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model, loss=nn.CrossEntropyLoss(), input_shape=tuple(images.shape[1:]), nb_classes=victim.classifier.classes,
        clip_values=(0.0, 1.0), device_type="cpu",
    )  # fmt: skip


_NEAT = """
[NEAT]
fitness_criterion = max
fitness_threshold = 1
pop_size = 10
reset_on_extinction = False
no_fitness_termination = True
[DefaultGenome]
num_inputs = 4
num_outputs = {outputs}
num_hidden = 0
initial_connection = full_direct
feed_forward = True
compatibility_disjoint_coefficient = 1.0
compatibility_weight_coefficient = 0.5
conn_add_prob = 0.5
conn_delete_prob = 0.3
node_add_prob = 0.5
node_delete_prob = 0.2
activation_default = random
activation_options = sin sigmoid gauss clamped
activation_mutate_rate = 0.1
aggregation_default = sum
aggregation_options = sum
aggregation_mutate_rate = 0.0
bias_init_mean = 0.0
bias_init_stdev = 0.0
bias_max_value = 0.0
bias_min_value = 0.0
bias_mutate_power = 0.0
bias_mutate_rate = 0.0
bias_replace_rate = 0.0
response_init_mean = 1.0
response_init_stdev = 0.0
response_max_value = 1.0
response_min_value = 1.0
response_mutate_power = 0.0
response_mutate_rate = 0.0
response_replace_rate = 0.0
weight_init_mean = 0.0
weight_init_stdev = 3.0
weight_max_value = 10
weight_min_value = -10
weight_mutate_power = 1.6
weight_mutate_rate = 0.1
weight_replace_rate = 0.0
enabled_default = True
enabled_mutate_rate = 0.0
[DefaultSpeciesSet]
compatibility_threshold = 3.0
[DefaultStagnation]
species_fitness_func = max
max_stagnation = 20
species_elitism = 2
[DefaultReproduction]
elitism = 2
survival_threshold = 0.2
"""
