"""The rows of speed.py as people read them."""

from __future__ import annotations

from typing import Any

from rich.table import Table

Row = dict[str, Any]


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    out = Table(title="time ÷ floor; beside a peer, ours at that peer's budget", title_justify="left", box=None)
    own = ("victim", "attack", "queries", "seconds", "÷ floor", "success")
    for name in (*own, "peer", "queries", "µs a query", "× ours, a query", "success"):
        out.add_column(name, justify="left" if name in ("victim", "attack", "peer") else "right")
    for r in rows:
        cells = [
            r["victim"],
            r["attack"] if r["success"] is not None else f"{r['backend']}, batches of {r['queries']}",
            f"{r['queries']:,}",
            f"{r['seconds']:.2f}",
            f"{r['ratio']:.2f}",
            "" if r["success"] is None else f"{r['success']:.0%}",
        ]
        if r["peer"] is None:
            cells += [""] * 5
        else:
            # FGSM is compared image by image and ε by ε: some peers also ask how each image was answered.
            other = r["peer_seconds"] / (r["queries"] if r["attack"] == "fgsm" else r["peer_queries"])
            cells += [r["peer"], f"{r['peer_queries']:,}", f"{other * 1e6:.1f}"]
            cells += [f"{other * r['queries'] / r['seconds']:.1f}", f"{r['peer_success']:.0%}"]
        out.add_row(*cells)
    return out
