"""What was asked for of one answer."""

from __future__ import annotations

from msgspec import Struct

from bus.messages import Mailbox, Sampling


class Asked(Struct, frozen=True):
    """The request, as it was ordered."""

    flow: str
    attempt: int
    sampling: Sampling
    reply: Mailbox
    num_prompt: int
    """Tokens of the user's prompt: the rest of the context's tokens are the answer so far."""
    prompt_text: str = ""
    """Where the user wants it back."""
    choice: int = 0
    """Which of the request's answers this is."""
