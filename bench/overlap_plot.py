"""The picture of `bench.overlap`: what is exposed, and what the prefill takes, by prompt length."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .overlap import Point


def plot(points: Sequence[Point], path: Path) -> None:
    """Write the picture, in the format of the path's suffix; the same points make the same file."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "overlap"
    from matplotlib import pyplot

    figure, (shares, seconds) = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    lengths = sorted({p.num_tokens for p in points})
    links = list(dict.fromkeys(p.link for p in points))
    for link in links:
        line = [_at(points, link, n, "exposed_share") * 100 for n in lengths]
        shares.plot(lengths, line, "o-", label=link)
        line = [_at(points, link, n, "prefill_s") for n in lengths]
        seconds.plot(lengths, line, "o-", label=f"sent over {link}")
    alone = [statistics.median(p.alone_s for p in points if p.num_tokens == n) for n in lengths]
    seconds.plot(lengths, alone, "k:", label="sent to nobody")
    shares.axhline(5, color="grey", linewidth=0.8, linestyle="--", label="aim at shared memory")
    shares.set_yscale("log")
    shares.set_title("transfer time not hidden, % of the prefill", fontsize=9)
    seconds.set_title("prefill, s", fontsize=9)
    for axis in (shares, seconds):
        axis.set_xlabel("prompt tokens")
        axis.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _at(points: Sequence[Point], link: str, num_tokens: int, field: str) -> float:
    there = [p for p in points if (p.link, p.num_tokens) == (link, num_tokens)]
    values: list[float] = [getattr(p, field) for p in there]
    return statistics.median(values)
