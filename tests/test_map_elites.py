"""MAP-Elites against a plain loop, and the operators that both fooling encodings share against known answers."""

import colorsys

import pytest
import torch
from foolbench.attacks.evolving.color import check_channels, hls_to_rgb, paint
from foolbench.attacks.evolving.map_elites import contest, draw_parents, empty_cells, install_
from foolbench.attacks.evolving.polynomial import polynomial_mutation

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_contest_equals_a_loop_over_children_and_cells():
    rng = generator()
    runs, children, cells = 3, 7, 4
    confidence = empty_cells(runs, cells, CPU)
    elites = torch.full((runs, cells, 2), -1.0)
    loop_confidence, loop_elites = confidence.tolist(), elites.tolist()
    for generation in range(12):
        # Few distinct values, so that ties among children and with the elites abound.
        offered = torch.randint(2 + generation, (runs, children, cells), generator=rng) / 20
        genes = torch.rand(runs, children, 2, generator=rng)
        before = confidence.clone(), genes.clone()

        result = contest(confidence, offered)
        install_(elites, genes, result)

        assert torch.equal(confidence, before[0])
        assert torch.equal(genes, before[1])
        confidence = result.standing
        for run in range(runs):
            for child in range(children):
                for cell in range(cells):
                    if offered[run, child, cell].item() > loop_confidence[run][cell]:
                        loop_confidence[run][cell] = offered[run, child, cell].item()
                        loop_elites[run][cell] = genes[run, child].tolist()
        assert confidence.tolist() == loop_confidence
        assert elites.tolist() == loop_elites


def test_a_tie_leaves_the_elite_and_one_child_may_take_every_cell():
    result = contest(torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.5, 0.4], [0.5, 0.5]]]))
    assert len(result.cell) == 0
    result = contest(torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.1, 0.9], [0.6, 0.9]]]))
    assert result.cell.tolist() == [0, 1]
    assert result.child.tolist() == [1, 0]
    result = contest(torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.1, 0.1], [0.6, 0.9]]]))
    assert result.child.tolist() == [1, 1]


def test_parents_are_drawn_uniformly_from_the_cells():
    drawn = draw_parents(2, 5, 20_000, generator())
    assert drawn.shape == (2, 20_000)
    share = torch.stack([run.bincount(minlength=5) for run in drawn]) / 20_000
    assert (share - 0.2).abs().max() < 0.012  # four standard deviations


def test_polynomial_step_has_the_published_size():
    genes = torch.full((400_000,), 0.5, dtype=torch.float64)  # no step reaches a bound at 1/2 but one in a million
    step = polynomial_mutation(genes, 1.0, 15.0, generator()) - 0.5
    assert step.abs().mean().item() == pytest.approx(1 / 17, rel=0.01)
    assert step.std().item() == pytest.approx(0.081, rel=0.01)
    assert step.abs().quantile(0.95).item() == pytest.approx(0.17, abs=0.003)
    assert step.mean().abs().item() < 0.0006


def test_polynomial_mutation_keeps_range_rate_and_parents():
    genes = torch.rand(50, 1, 40, 50, generator=generator())
    before = genes.clone()
    mutant = polynomial_mutation(genes, 0.1, 15.0, generator(1))
    assert torch.equal(genes, before)
    assert mutant.min() >= 0
    assert mutant.max() <= 1
    assert (mutant != genes).float().mean().item() == pytest.approx(0.1, abs=0.004)
    same = polynomial_mutation(genes, 0.0, 15.0, generator(1))
    assert torch.equal(same, genes)
    assert same.data_ptr() != genes.data_ptr()
    assert polynomial_mutation(genes.transpose(1, 3), 0.1, 15.0, generator(1)).shape == (50, 50, 40, 1)


def test_hls_is_bit_for_bit_the_plain_formula_and_stays_in_range():
    hls = torch.rand(40, 3, 30, 30, generator=generator())
    hls[20:30] = (hls[20:30] * 24).round() / 24
    hls[30:] = (hls[30:] * 12).round() / 12 + torch.randint(-2, 3, hls[30:].shape, generator=generator(1)) * 2**-24
    hls.clamp_(0, 1)
    hue, lightness, saturation = hls.unbind(1)
    reach = saturation * torch.minimum(lightness, 1 - lightness)
    sectors = [torch.remainder(hue * 12 + offset, 12) for offset in (0, 8, 4)]
    waves = [torch.minimum(sector - 3, 9 - sector).clamp(-1, 1) for sector in sectors]
    rgb = hls_to_rgb(hls)
    assert torch.equal(rgb, torch.stack([lightness - reach * wave for wave in waves], 1))
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_hls_equals_the_standard_library():
    hls = torch.rand(60, 3, 2, 3, generator=generator(), dtype=torch.float64)
    hls[:6, 0] = torch.arange(6).view(6, 1, 1) / 6
    hls[6, 0], hls[7, 1], hls[8, 1], hls[9, 2] = 1, 0, 1, 0
    expected = [colorsys.hls_to_rgb(*pixel) for pixel in hls.movedim(1, -1).reshape(-1, 3).tolist()]
    rgb = hls_to_rgb(hls)
    torch.testing.assert_close(
        rgb.movedim(1, -1).reshape(-1, 3), torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert torch.equal(hls_to_rgb(hls[5]), rgb[5])
    gray = torch.rand(2, 1, 3, 3, generator=generator())
    assert paint(gray) is gray
    with pytest.raises(ValueError, match="expected images of 1 or 3 channels, got 4: convert them to gray or to RGB"):
        check_channels(4)
