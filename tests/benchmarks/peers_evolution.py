"""Evolution and CPPN in other libraries: see peers.py."""
# pyright: reportMissingImports=false

from __future__ import annotations

import numpy as np
import torch
from floor import now
from peers import Cost, Counting
from victims import Victim


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
            images = torch.from_numpy(solutions).to(victim.device, torch.float32).view(-1, c, h, w)
            with torch.inference_mode():
                probabilities = model(images).softmax(1).double().cpu().numpy()
            for target in range(k):
                measures = np.full((len(solutions), 1), target + 0.5)
                archive.add(solutions, probabilities[:, target], measures)
        return archive

    evolve(2)  # it compiles on first use, for seconds; ours has its first time outside of the clock as well
    model.images = 0
    started = now(victim.device)
    best = evolve(generations).data("objective")
    seconds = now(victim.device) - started
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

    started = now(victim.device)
    best: list[tuple[float, neat.DefaultGenome | None]] = [(0.0, None)] * k
    for generation in range(generations):
        parents = [genome for _, genome in best if genome is not None]
        genomes = [
            fresh() if generation == 0 or not parents else child(random.choice(parents)) for _ in range(population)
        ]
        images = torch.tensor([render(genome) for genome in genomes]).clamp(0, 1).transpose(1, 2).reshape(-1, c, h, w)
        with torch.inference_mode():
            probabilities = model(images.to(victim.device)).softmax(1).cpu()
        top, at = probabilities.max(0)
        for target in range(k):
            if float(top[target]) > best[target][0]:
                best[target] = (float(top[target]), genomes[int(at[target])])
    return Cost(now(victim.device) - started, model.images, sum(b[0] >= 0.99 for b in best) / k)


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
