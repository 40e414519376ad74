"""`fooling-class`: DNN1, DNN2, … with one class more, "fooling images" (Nguyen, Yosinski & Clune, CVPR 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...attacks.base import Fool, Query
from ...attacks.cppn import Cppn
from ...attacks.evolution import Evolution
from .epochs import Course, untrained
from .fooling_class import evolved
from .measure import Reached, of_network
from .setup import Product, TrainingSetup, as_bytes, as_images
from .steps import Row, Step, Tensors, Tick


@dataclass(frozen=True)
class FoolingClassRecipe:
    """Rounds of training and evolving, as `fooling_class.FoolingClass`, whose departures from the paper hold here too.

    In each round images are evolved against the network of the round, from new seeds. They show how well it is fooled,
    and they join the extra class that the next round's network is trained with: half of them the best of the first
    generation, half the best of the last. Every network starts from fresh weights, or, where a network was given,
    from its weights and an output of zeros.
    """

    setup: TrainingSetup

    def steps(self) -> list[Step]:
        """See bench/harden/harden.py."""
        self.setup.start.build(
            self.setup.rng("trial"), widen=True
        )  # what cannot take one more class is refused at once
        found: list[Step] = []
        for number in range(self.setup.how.rounds + 1):
            course = self._course(number)
            given = number == 0 and self.setup.start.given
            found += [untrained(course)] if given else course.steps()
            found.append(
                Step(course.phase, "fooling images", lambda t, tick, number=number: self._evolve(t, tick, number))
            )
        return found

    def product(self, tensors: Tensors) -> Product:
        """See bench/harden/harden.py."""
        rounds = self.setup.how.rounds
        title = f"class of fooling images, {rounds} round{'s' if rounds > 1 else ''}"
        network = self._course(rounds).network(tensors)
        return Product(network, self.setup.classes, title, "https://arxiv.org/abs/1412.1897", {})

    def _course(self, number: int) -> Course:
        def images(tensors: Tensors) -> tuple[Tensor, Tensor]:
            own, labels = self.setup.images.train, self.setup.images.labels
            fooling = as_images(tensors["fooling"], own.device)
            marks = torch.full((len(fooling),), self.setup.classes, device=own.device)
            return torch.cat([own, fooling]), torch.cat([labels, marks])

        phase = f"DNN{number + 1}"
        if number == 0:
            return self.setup.course(phase)
        return self.setup.course(phase, "round", number, images=images, widen=True)

    def _evolve(self, tensors: Tensors, tick: Tick, number: int) -> tuple[Tensors, Row]:
        setup, how = self.setup, self.setup.how
        network = self._course(number).network(tensors)
        measured = of_network(network, setup.classes, setup.levels)
        shape = setup.battery.spec.shape
        rounded = setup.levels.rounded
        noise = rounded(torch.rand(how.noise, *shape, generator=setup.rng("noise"))) if how.noise else None
        fooling = tensors.get("fooling", torch.zeros(0, *shape, dtype=torch.uint8))
        if number == 0 and noise is not None:
            fooling = as_bytes(noise)
        fresh = rounded(torch.rand(1000, *shape, generator=setup.rng("fresh noise"))).to(setup.device)
        judge = setup.battery.spec.judge
        tau = measured.tau(setup.images.held, setup.images.held_labels, judge.tau_quantile)
        accepted = float((measured.labels(fresh) >= 0).double().mean())
        row: Row = {"tau": tau, "flat_confidence": judge.flat_confidence, "noise_accepted": accepted}
        thresholds = {"at_flat": judge.flat_confidence} | ({} if tau is None else {"at_tau": tau})
        targets = torch.arange(setup.classes, device=setup.device)
        task = Fool(shape, targets, how.runs, setup.images.mean, setup.levels)
        for place, kind in enumerate((Evolution, Cppn)):
            name = kind.__name__.lower()
            rng = setup.rng_there("round", number, name)
            first = evolved(kind(generations=1).search(task, rng), network, setup.levels)
            attack = kind(generations=how.generations)
            watch = Reached(how.runs, setup.classes, attack.children, thresholds)

            def watching(query: Query, answers: Tensor, watch: Reached = watch, place: int = place) -> None:
                watch(query, answers)
                tick((place + watch.generations / how.generations) / 2)

            last = evolved(attack.search(task, rng), network, setup.levels, watching)
            row[name] = watch.row()
            fooling = torch.cat([fooling, as_bytes(first), as_bytes(last)])
        return {**tensors, "fooling": fooling}, {**row, "fooling_images": len(fooling)}
