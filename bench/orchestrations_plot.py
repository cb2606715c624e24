"""The sweep of `bench.orchestrations` as a picture: a row per measure, a column per workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .sweep_points import Point

MEASURES: Final = (
    ("ttft_mean_s", "TTFT, mean"),
    ("tpot_mean_s", "TPOT, mean"),
    ("jct_mean_s", "JCT, mean"),
    ("jct_p99_s", "JCT, P99"),
)


def plot(points: Sequence[Point], path: Path) -> None:
    """Write the picture, in the format of the path's suffix."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    workloads = list(dict.fromkeys(p.workload for p in points))
    strategies = list(dict.fromkeys(p.strategy for p in points))
    size = (3.2 * len(workloads), 2.2 * len(MEASURES))
    figure, axes = pyplot.subplots(
        len(MEASURES), len(workloads), figsize=size, squeeze=False, constrained_layout=True
    )
    for column, workload in enumerate(workloads):
        for row, (field, label) in enumerate(MEASURES):
            axis = axes[row][column]
            for strategy in strategies:
                line = [p for p in points if (p.workload, p.strategy) == (workload, strategy)]
                rates = [p.rate_per_s for p in line]
                axis.plot(rates, [getattr(p, field) * 1e3 for p in line], "o-", label=strategy)
            axis.set_ylim(bottom=0)
            axis.tick_params(labelsize=7)
            axis.set_title(f"{workload}: {label}, ms", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("requests/s", fontsize=8)
    axes[0][0].legend(fontsize=7)
    figure.savefig(path)
    pyplot.close(figure)
