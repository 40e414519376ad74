"""What `foolbench list` shows."""

from __future__ import annotations

from typing import get_args

from rich.table import Table

from .options import ListKind


def table(kind: ListKind) -> Table:
    """One kind of thing, a row each."""
    out = Table(box=None, padding=(0, 1), header_style="underline")
    rows = {"attacks": _attacks, "defenses": _defenses, "models": _models, "batteries": _batteries, "recipes": _recipes}
    head, found = rows[kind]()
    for name in head:
        out.add_column(name)
    for row in found:
        out.add_row(*row)
    return out


def _attacks() -> tuple[list[str], list[tuple[str, ...]]]:
    from ..battery.installed import own, packaged

    found = [(attack, "foolbench") for attack in own()] + [(p.attack, p.source) for p in packaged()]
    sees = {"black": "probabilities", "white": "gradients too"}
    rows = [
        (
            a.name,
            a.title,
            a.task,
            "labels" if a.access == "label" else sees[a.box],
            "control" if a.control else "attack",
            source,
        )
        for a, source in found
    ]
    return ["name", "attack", "task", "sees", "as", "from"], rows


def _defenses() -> tuple[list[str], list[tuple[str, ...]]]:
    from ..submission.defenses import Defense
    from ..submission.packages import installed

    found = [(f"package: {p.name}", f"Installed with {p.distribution} {p.version}.") for p in installed()]
    return ["kind", "what it does"], [*_kinds(Defense), *found]


def _models() -> tuple[list[str], list[tuple[str, ...]]]:
    from ..submission.models import Model

    return ["kind", "what it is"], _kinds(Model)


def _kinds(union: object) -> list[tuple[str, ...]]:
    classes = get_args(get_args(union)[0])
    return [(get_args(c.model_fields["kind"].annotation)[0], (c.__doc__ or "").split("\n")[0]) for c in classes]


def _batteries() -> tuple[list[str], list[tuple[str, ...]]]:
    from ..battery.battery import read_battery
    from ..battery.named import shipped_names

    rows = []
    for name in shipped_names():
        battery = read_battery(name)
        c, h, w = battery.spec.shape
        tiers = "standard, smoke" if battery.spec.smoke else "standard"
        rows.append((name, battery.spec.title, f"{c}×{h}×{w}", str(battery.classes), tiers, battery.digest[:16]))
    return ["name", "title", "images", "classes", "tiers", "digest"], rows


def _recipes() -> tuple[list[str], list[tuple[str, ...]]]:
    from ..harden.recipes import RECIPES

    return ["name", "what it makes", "about"], [(n, r.title, f"{r.seconds:.0f} s") for n, r in RECIPES.items()]
