"""`microserve completion`: what makes a shell complete commands, options, strategies and flows."""

from __future__ import annotations

import contextlib
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

PROGRAM: Final = "microserve"
VARIABLE: Final = "_MICROSERVE_COMPLETE"
SHELLS: Final = ("bash", "zsh", "fish")
SHOWN_FLOWS: Final = 20


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete this command's words.

    \b
    Examples:
      microserve completion bash >> ~/.bashrc
      microserve completion zsh >> ~/.zshrc
      microserve completion fish > ~/.config/fish/completions/microserve.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())


def strategies(
    context: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The installed ones; files are completed by the shell."""
    from orchestrations.registry import names

    found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def flows(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The latest whose traces are kept here."""
    from observability.sink import TracingError
    from observability.store import TraceStore

    from .settings import from_environment

    store_path = from_environment().trace_store
    if not store_path.exists():
        return []
    with contextlib.suppress(TracingError):
        store = TraceStore(store_path)
        try:
            latest = store.latest(SHOWN_FLOWS)
        finally:
            store.close()
        return [
            CompletionItem(head.flow, help=f"{head.orchestration} {head.duration_s:.2f} s")
            for head in latest
            if head.flow.startswith(incomplete)
        ]
    return []


commands = (completion,)
