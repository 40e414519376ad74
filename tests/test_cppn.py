"""CPPN genomes: rendering against a network evaluated node by node, and what each mutation may do to a graph."""

import math
from dataclasses import replace

import pytest
import torch
from foolbench.attacks.evolving.genome import FREE, INPUTS, Genomes, first_genomes
from foolbench.attacks.evolving.render import coordinates, render
from foolbench.attacks.evolving.variation import Variation, ancestors

CPU = torch.device("cpu")
STILL = Variation(weight_rate=0, activation_rate=0, add_connection=0, delete_connection=0, add_node=0, delete_node=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def evolved(count: int, outputs: int, rounds: int, seed: int = 0, variation: Variation | None = None) -> Genomes:
    rng = generator(seed)
    genomes = first_genomes(count, outputs, rng)
    for _ in range(rounds):
        genomes = (variation or Variation()).mutate(genomes, rng)
    return genomes


def edges_of(genomes: Genomes, row: int) -> list[tuple[int, int, float]]:
    table = zip(genomes.source[row].tolist(), genomes.target[row].tolist(), genomes.weights[row].tolist(), strict=True)
    return [(source, target, weight) for source, target, weight in table if target]


def naive_ancestors(edges, node: int) -> set[int]:
    return {node}.union(*(naive_ancestors(edges, source) for source, target, _ in edges if target == node))


def naive_pixel(genomes: Genomes, row: int, inputs: list[float]) -> list[float]:
    edges, kinds, known = edges_of(genomes, row), genomes.activation[row].tolist(), dict(enumerate(inputs))

    def value(node: int) -> float:
        if node not in known:
            p = math.fsum((20 * weight - 10) * value(source) for source, target, weight in edges if target == node)
            known[node] = [
                lambda: math.sin(p),
                lambda: math.tanh(p / 2),
                lambda: math.exp(-p * p),
                lambda: max(-3.0, min(3.0, p)) / 3,
            ][kinds[node]]()
        return known[node]

    return [abs(value(INPUTS + output)) for output in range(genomes.outputs)]


def test_coordinates_are_pixel_indices_and_distance():
    x, y, d, bias = coordinates(3, 5, CPU).view(4, 3, 5)
    assert x[1].tolist() == [0, 1, 2, 3, 4]
    assert y[:, 1].tolist() == [0, 1, 2]
    assert d[1].tolist() == [1, 0.5, 0, 0.5, 1]
    assert d[0, 0].item() == pytest.approx(math.sqrt(2))
    assert torch.all(bias == 1)
    assert coordinates(1, 1, CPU)[2].item() == 0


@pytest.mark.parametrize(("outputs", "rounds"), [(1, 0), (1, 12), (3, 60)])
def test_rendering_equals_evaluating_each_network_by_itself(outputs, rounds):
    genomes = evolved(25, outputs, rounds, seed=outputs)
    if rounds == 60:
        assert genomes.hidden.sum(1).float().mean() > 10
    pixels = coordinates(3, 4, CPU).double()
    image = render(genomes, pixels, 10.0)
    assert image.shape == (25, outputs, 12)
    expected = torch.tensor(
        [[naive_pixel(genomes, row, inputs) for inputs in pixels.T.tolist()] for row in range(25)], dtype=torch.float64
    ).transpose(1, 2)
    torch.testing.assert_close(image, expected, atol=1e-8, rtol=0)
    assert render(genomes, pixels.float(), 10.0).dtype == torch.float32


def test_a_node_without_inputs_is_a_constant():
    nothing = torch.zeros(4, 1, dtype=torch.int64)
    activation = torch.tensor([[3, 3, 3, 3, kind] for kind in range(4)])
    genomes = Genomes(torch.rand(4, 1), nothing, nothing, activation, outputs=1)
    assert render(genomes, coordinates(2, 2, CPU), 10.0)[:, 0, 0].tolist() == [0, 0, 1, 0]


def test_rendering_does_not_depend_on_the_company(monkeypatch):
    genomes, pixels = evolved(40, 3, 20), coordinates(6, 6, CPU)
    whole = render(genomes, pixels, 10.0)
    alone = torch.cat([render(genomes.take(torch.tensor([row])), pixels, 10.0) for row in range(40)])
    torch.testing.assert_close(alone, whole, atol=1e-4, rtol=0)
    monkeypatch.setattr("foolbench.attacks.evolving.render._CHUNK", 3000)
    torch.testing.assert_close(render(genomes, pixels, 10.0), whole, atol=1e-4, rtol=0)


def test_first_genomes_are_fully_connected_without_hidden_nodes():
    genomes = first_genomes(2000, 3, generator())
    assert not genomes.hidden.any()
    assert sorted((s, t) for s, t, _ in edges_of(genomes, 7)) == [(s, t) for s in range(4) for t in (4, 5, 6)]
    assert genomes.weights.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (genomes.activation.flatten().bincount(minlength=4) / genomes.activation.numel() - 0.25).abs().max() < 0.02


def test_at_rate_zero_children_are_their_parents():
    parents = evolved(30, 1, 15)
    children = STILL.mutate(parents, generator(3))
    for name in ("weights", "source", "target", "activation"):
        assert torch.equal(getattr(children, name), getattr(parents, name))


def test_lineages_stay_feed_forward_whole_and_compact():
    limits = Variation(max_nodes=12, max_connections=20)
    for outputs in (1, 3):
        genomes = evolved(60, outputs, 60, variation=limits)
        first_hidden = INPUTS + outputs
        assert genomes.hidden.sum(1).max() == 12
        assert genomes.used.sum(1).max() <= 20
        assert genomes.activation.shape[1] <= first_hidden + 12
        assert genomes.hidden[:, -1].any()
        assert genomes.used[:, -1].any()
        for row in range(len(genomes)):
            edges = edges_of(genomes, row)
            for source, target, weight in edges:
                assert genomes.activation[row, source] != FREE
                assert genomes.activation[row, target] != FREE
                assert target >= INPUTS
                assert not INPUTS <= source < first_hidden
                assert target not in naive_ancestors(edges, source)
                assert 0 <= weight <= 1
    with pytest.raises(ValueError, match="expected at most 3 hidden nodes and 256 connections, got 12 and"):
        Variation(max_nodes=3).mutate(genomes, generator())


def test_ancestors_equal_a_recursive_search():
    genomes = evolved(50, 1, 30)
    nodes = torch.where(genomes.hidden.any(1), genomes.hidden.int().argmax(1), INPUTS)
    found = ancestors(genomes, nodes)
    for row, node in enumerate(nodes.tolist()):
        assert set(found[row].nonzero().flatten().tolist()) == naive_ancestors(edges_of(genomes, row), node)


def test_a_new_connection_may_end_wherever_it_closes_no_cycle():
    genome = evolved(1, 1, 8, seed=5)
    edges = edges_of(genome, 0)
    hidden = genome.hidden[0].nonzero().flatten().tolist()
    assert len(hidden) >= 3
    allowed = {
        (source, target)
        for source in [*range(INPUTS), *hidden]
        for target in [INPUTS, *hidden]
        if target not in naive_ancestors(edges, source)
    }
    children = replace(STILL, add_connection=1.0).mutate(genome.take(torch.zeros(5000, dtype=torch.int64)), generator())
    added = [edges_of(children, row) for row in range(5000)]
    assert all(len(after) == len(edges) + 1 for after in added)
    assert {next((s, t) for s, t, w in after if (s, t, w) not in edges) for after in added} == allowed


def test_a_connection_is_deleted():
    genomes = evolved(200, 1, 10)
    children = replace(STILL, delete_connection=1.0).mutate(genomes, generator())
    for row in range(200):
        before, after = edges_of(genomes, row), edges_of(children, row)
        assert len(after) == max(0, len(before) - 1)
        assert set(after) <= set(before)


def test_a_node_is_put_on_a_connection_whose_weight_both_halves_inherit():
    genomes = evolved(200, 1, 10)
    children = replace(STILL, add_node=1.0).mutate(genomes, generator())
    for row in range(200):
        before, after = edges_of(genomes, row), edges_of(children, row)
        if not before:
            assert after == before
            continue
        [(source, target, weight)] = set(before) - set(after)
        halves = set(after) - set(before)
        node = next(t for s, t, _ in halves if s == source and t != target)
        assert halves == {(source, node, weight), (node, target, weight)}
        assert len(after) == len(before) + 1
        assert node == INPUTS + 1 or genomes.hidden[row, INPUTS + 1 : node].all()  # the first free slot
    assert torch.equal(children.hidden.sum(1), genomes.hidden.sum(1) + genomes.used.any(1))


def test_a_node_is_deleted_with_its_connections():
    genomes = evolved(200, 1, 10)
    children = replace(STILL, delete_node=1.0).mutate(genomes, generator())
    for row in range(200):
        gone = set(genomes.hidden[row].nonzero().flatten().tolist()) - set(
            children.hidden[row].nonzero().flatten().tolist()
        )
        assert len(gone) == min(1, int(genomes.hidden[row].sum()))
        assert edges_of(children, row) == [edge for edge in edges_of(genomes, row) if not gone & {*edge[:2]}]


def test_operations_happen_at_their_rates():
    genomes = evolved(20_000, 1, 1, variation=replace(STILL, add_node=1.0))  # 1 hidden node, 5 connections each
    assert genomes.hidden.sum(1).tolist() == [1] * 20_000
    for field, change in (
        ("add_connection", lambda child: child.used.sum(1) - 5),
        ("delete_connection", lambda child: 5 - child.used.sum(1)),
        ("add_node", lambda child: child.hidden.sum(1) - 1),
        ("delete_node", lambda child: 1 - child.hidden.sum(1)),
    ):
        rate = getattr(Variation(), field)
        child = replace(STILL, **{field: rate}).mutate(genomes, generator(2))
        assert change(child).float().mean().item() == pytest.approx(rate, abs=0.015)
    child = replace(STILL, activation_rate=0.1).mutate(genomes, generator(2))
    assert (child.activation != genomes.activation).float().mean().item() == pytest.approx(0.075, abs=0.005)


def test_fields_are_checked():
    with pytest.raises(ValueError, match="expected add_node between 0 and 1, got 2: give a probability"):
        Variation(add_node=2)
    with pytest.raises(ValueError, match="expected max_nodes of at least 1, got 0: raise it"):
        Variation(max_nodes=0)
