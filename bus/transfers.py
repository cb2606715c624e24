"""How a KV transfer ends, told to an engine by its transport. Never leaves the process."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from .events import Reason


class Arrived(Struct, frozen=True, tag=True):
    """Receiver: every byte of the grant is in our pages, and nobody will write them again."""

    flow: str
    attempt: int
    num_bytes: int


class Delivered(Struct, frozen=True, tag=True):
    """Sender: the receiver acknowledged the last byte; our pages are no longer read."""

    flow: str
    attempt: int
    num_bytes: int
    num_runs: int
    seconds: float
    """From the first write to the acknowledgement."""
    exposed_s: float
    """From `Wire.finish` to the acknowledgement: what the computation did not hide."""
    lane: str
    write_s: float = 0.0
    """Of ``seconds``, those spent writing or waiting for what was written to land: the lane's
    speed is ``num_bytes / write_s``, however long the computation took."""


class SendFailed(Struct, frozen=True, tag=True):
    """Sender: the transfer will not complete; our pages are no longer read."""

    flow: str
    attempt: int
    reason: str
    kind: Reason = "transfer_failed"
    """``corrupt`` where the bytes that arrived were not those that were sent."""


class Fenced(Struct, frozen=True, tag=True):
    """Receiver: the grant is void and nobody can write its pages any more: they may be reused.

    Follows a `Wire.revoke`, or comes by itself when a lease ran out or the sender died.
    """

    flow: str
    attempt: int
    reason: str
    kind: Reason = "transfer_failed"


TransferEvent: TypeAlias = Arrived | Delivered | SendFailed | Fenced


class PageLayout(Struct, frozen=True):
    """What the bytes of a page are: engines tell each other in every grant, so that whatever cannot
    work is refused in words before the first byte."""

    model: str
    """Hash of the weights and the configuration."""
    dtype: str
    num_kv_heads: int
    """Of the model, however many of them a pool has."""
    head_dim: int
    version: int
    """Of the order of the numbers within a page."""
    tensor_parallel: int = 1
    """Ranks that share the heads."""
    rank: int = 0
    """Whose pool it is."""


class PoolShape(Struct, frozen=True):
    """How the KV pages of one engine lie in its one block of memory: layer by layer, page by page.

    ```
    layer 0: | page 0 | page 1 | ... |   layer 1: | page 0 | ...
    ```

    One page of one layer is ``page_bytes`` long and holds keys, then values, of ``page_size``
    tokens. It begins at byte ``(layer * num_pages + page) * page_bytes``.
    """

    num_layers: int
    num_pages: int
    page_size: int
    """Tokens per page."""
    page_bytes: int
    """Bytes of one page in one layer."""
    fingerprint: str
    """Hash of model, dtype and layout: equal fingerprints mean interchangeable pages."""
    layout: PageLayout | None = None
    """With it, pages of another size can be re-laid out, and a refusal says why."""

    @property
    def num_bytes(self) -> int:
        return self.num_layers * self.num_pages * self.page_bytes

    @property
    def token_bytes(self) -> int:
        """Of one token in all layers."""
        return self.num_layers * self.page_bytes // self.page_size
