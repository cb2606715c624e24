"""A context that another engine writes into our pages, and what waits for it."""

from __future__ import annotations

from .context import Context


class Reception:
    """
    ```
    tokens   |<- matched in our cache ->|<- granted: the peer writes ->|  the prompt goes on
             0                       matched                          end          num_prompt
    ```
    """

    def __init__(self, context: Context, num_prompt: int, now: float) -> None:
        self.context = context
        self.num_prompt = num_prompt
        self.num_granted = 0
        """Pages that the peer may write until the transfer has ended."""
        self.revoked = False
        """Nobody waits for it; its pages are free once the peer can write no more."""
        self.committing_since: float | None = None
        """When a `Commit` began to wait for it."""
        self.prepared_s = now

    @property
    def is_arriving(self) -> bool:
        return self.num_granted > 0

    def arrive(self) -> int:
        """Every token is here. Publishes what nobody is going to write: the page of the last
        prompt token is computed once more by the engine that generates. Returns tokens received."""
        received = self.context.num_tokens - self.context.num_computed
        self.num_granted = 0
        self.context.num_computed = self.context.num_tokens
        self.context.publish(self.num_prompt - 1)
        return received
