"""How much of a prefix comes back from the second tier in one step, while others decode.

```
prefix   |<- cached ->|<- comes back in this step ->|<- in the next ones ->|<- computed then ->|
```

What came back is cached and held by nobody until all of it is there: the request still waits, and
its pages are as good as free to whoever needs some before it begins.
"""

from __future__ import annotations

from math import inf

from .config import EngineConfig
from .context import Context
from .pace import Pace


class Restoring:
    def __init__(self, config: EngineConfig, pace: Pace, page_size: int) -> None:
        self._config, self._pace, self._page_size = config, pace, page_size
        self._left = inf
        self.num_tokens = 0
        """That came back in this step."""

    def begin(self, num_decoding: int) -> None:
        """A step beside so many that decode. Without any, nobody is kept waiting."""
        self.num_tokens = 0
        self._left = inf
        if num_decoding:
            fitting = self._pace.restorable_tokens(num_decoding)
            self._left = min(fitting, self._config.max_batch_tokens)

    def restore(self, context: Context, end: int) -> bool:
        """Bring back more of ``context``, which is matched, below token ``end``; whether that is
        all there is. One page at least comes back in a step, whatever it takes."""
        most = None if self._left == inf else max(1, int(self._left) // self._page_size)
        before = context.num_computed
        is_whole = context.restore(end, most)
        self.num_tokens += context.num_computed - before
        self._left -= context.num_computed - before
        return is_whole

    def learn(self, took_s: float) -> None:
        """How long this step's restoring took."""
        self._pace.learn_restoring(self.num_tokens, took_s)
