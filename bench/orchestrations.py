"""Strategies under Poisson load: time to first token, per token, and to the end, at each rate.

Two real engines with one thread each, a prefiller and a decoder by role, over UCX, with a small
random Llama (`little_llama`). Every strategy gets the same requests at the same moments, on engines
that have none of them cached.

A run of everything takes the better part of an hour. In pieces, each on a quiet machine:

```
python -m bench.orchestrations measure FILE --within 240   # what is missing in FILE, for so long
python -m bench.orchestrations tell FILE                   # table, ratios, and a picture beside it
```
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

import click
import msgspec

from .machine import Watch
from .progress import steps
from .report import AtMost, Result
from .sweep import CROSS_CHECK, DEFAULT, LITTLE, WORKLOADS, Run, Sweep, cells, measure
from .sweep_points import figures, points, ratios, table

TARGETS: Final = {
    "best_p99_jct_vs_data_parallel": AtMost(0.53),
    "adaptive_worst_vs_best_static": AtMost(1.05),
    "adaptive_on_shift_vs_best_static": AtMost(1.0),
}


def run(sweep: Sweep = Sweep()) -> Result:  # noqa: B008 - frozen
    """All of it at once."""
    return result(asyncio.run(_all(sweep)))


def result(runs: Sequence[Run]) -> Result:
    found = points(runs)
    return Result("orchestrations", ratios(found), figures(found), dict(TARGETS))


async def _all(sweep: Sweep) -> list[Run]:
    return [one async for one in measure(sweep)]


# --- in pieces ----------------------------------------------------------------------------------


def read(path: Path) -> list[Run]:
    """What a file of runs holds; nothing where there is none yet."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Run) for line in lines]


async def add(path: Path, sweep: Sweep, within_s: float) -> None:
    """Measure what the file lacks, for so long at most. What others disturbed is left out, and so
    it is missing the next time, too."""
    done = {one.cell for one in read(path)}
    missing = [cell for cell in cells(sweep) if cell not in done]
    found = measure(sweep, done, time.monotonic() + within_s)
    with path.open("ab") as file, steps(len(missing), "runs") as step:
        async with aclosing(found):
            async for one in found:
                step()
                if sweep.is_sound(one):
                    file.write(msgspec.json.encode(one) + b"\n")
                    file.flush()


@click.group()
def main() -> None:
    """Measure strategies in pieces, and tell what was found."""


@main.command("measure")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--within", default=240.0, help="Seconds after which no further run is begun.")
@click.option("--workload", "names", multiple=True, help="Only these. [default: all]")
@click.option("--seeds", default=2, help="How many.")
@click.option("--seconds", default=8.0, help="Of load, for each run.")
@click.option("--model", type=click.Choice([LITTLE, DEFAULT]), default=LITTLE)
@click.option("--tolerated", default=0.08, help="Share of the machine that others may use.")
def measure_command(
    file: Path,
    within: float,
    names: tuple[str, ...],
    seeds: int,
    seconds: float,
    model: str,
    tolerated: float,
) -> None:
    """Append to FILE the runs that it lacks."""
    every = WORKLOADS if model == LITTLE else CROSS_CHECK
    known = {w.name: w for w in every}
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(
            f"{unknown[0]!r} is none of {', '.join(known)}, those of the model {model}",
            param_hint="--workload",
        )
    workloads = tuple(w for w in every if not names or w.name in names)
    sweep = Sweep(
        workloads,
        seconds=seconds,
        seeds=tuple(range(1, seeds + 1)),
        model=model,
        tolerated=tolerated,
    )
    watch = Watch.begin()
    asyncio.run(add(file, sweep, within))
    left = len({*cells(sweep)} - {one.cell for one in read(file)})
    others = watch.machine().load_by_others
    click.echo(f"{left} runs are left; others used {others:.0%} of the machine", err=True)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True))
def tell(file: Path) -> None:
    """Print the table of what FILE holds, and draw it into a picture beside it."""
    from .orchestrations_plot import plot

    found = points(read(file))
    sys.stdout.write(table(found))
    plot(found, file.with_suffix(".svg"))


if __name__ == "__main__":
    main()
