"""Stop strings: hold text back while one of them might be beginning, cut it off where one ends."""

from __future__ import annotations


class StopStrings:
    """Watches a text that comes in pieces.

    The first stop string to be complete counts, so that where the text is cut does not depend on
    how it was cut into pieces. Of several that end together, the longest counts.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest_beginning = max(map(len, stops), default=1) - 1
        self._held = ""
        self.matched = False

    def push(self, piece: str) -> str:
        """The text that is certain to come before any stop string; nothing more after a match."""
        if self.matched:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        found = self._first(text)
        if found is not None:
            self.matched, self._held = True, ""
            return text[:found]
        keep = self._possible_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back: no stop string came of it."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> int | None:
        """Where the stop string begins that is complete first."""
        places = ((text.find(stop), stop) for stop in self._stops)
        ends = [(begin + len(stop), begin) for begin, stop in places if begin >= 0]
        return min(ends)[1] if ends else None

    def _possible_beginning(self, text: str) -> int:
        """Length of the longest end of ``text`` that some stop string begins with."""
        for length in range(min(self._longest_beginning, len(text)), 0, -1):
            tail = text[len(text) - length :]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
