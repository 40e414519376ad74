"""The panel's evidence as it is kept: small, and every image back to the bit."""

import numpy as np
from foolbench.bench.battery.battery import read_battery
from foolbench.bench.battery.panel import Member, SourceImages, Sources, sources_from_bytes
from foolbench.bench.machine.npz import packed

ROWS = ("images", "attacked", "fooled", "label", "confidence")


def test_evidence_comes_back_to_the_bit_and_small():
    battery = read_battery("digits-v1", tier="smoke")
    data = battery.load()
    rng = np.random.default_rng(0)
    n = 40
    signs = rng.choice([-51, 51], (n, *data.images.shape[1:]))
    stepped = np.clip(data.images[:n].astype(int) + signs, 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, (10, *data.images.shape[1:]), dtype=np.uint8)

    def source(images: np.ndarray) -> SourceImages:
        t = len(images)
        attacked, fooled = rng.random(t) < 0.9, rng.random(t) < 0.5
        return SourceImages("net", images, attacked, fooled, rng.integers(-1, 10, t), rng.random(t, np.float32))

    images = {("net", "fgsm"): source(stepped), ("net", "evolution"): source(noise)}
    members = (Member("net", rng.integers(0, 10, len(data.labels)), 0.75), Member("none right", np.full(n, -1), None))
    raw = Sources(members, images).to_bytes(battery, data)
    back = sources_from_bytes(raw, data.images)
    for key, kept in images.items():
        for row in ROWS:
            np.testing.assert_array_equal(getattr(back.images[key], row), getattr(kept, row))
            assert getattr(back.images[key], row).dtype == getattr(kept, row).dtype
    assert [m.tau for m in back.members] == [0.75, None]
    assert raw == Sources(members, images).to_bytes(battery, data)
    # A smaller tier has the first of the evaluation images.
    fewer = sources_from_bytes(raw, data.images[:15])
    for row in ROWS:
        np.testing.assert_array_equal(
            getattr(fewer.images["net", "fgsm"], row), getattr(images["net", "fgsm"], row)[:15]
        )
        np.testing.assert_array_equal(
            getattr(fewer.images["net", "evolution"], row), getattr(images["net", "evolution"], row)
        )
    # A step of FGSM adds little more than one bit a pixel; the stepped images themselves are several.
    assert len(packed({"x": stepped - data.images[:n]}, small=True)) < 0.7 * len(packed({"x": stepped}, small=True))
