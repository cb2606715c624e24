"""Free page numbers, handed out in adjacent runs so that transfers are few large copies."""

from __future__ import annotations


class FreePages:
    """A set of page numbers kept as maximal runs ``[begin, end)``, sorted into size classes.

    Class ``k`` holds the runs of ``2**k`` to ``2**(k + 1) - 1`` pages. Giving one page back costs
    O(1); taking costs O(log pages) for each run that the answer is made of. Segregated fits
    (Wilson et al. 1995, "Dynamic Storage Allocation") rather than a sorted list: no scans, and a
    large request is not served from crumbs while a large run is there.
    """

    def __init__(self, num_pages: int) -> None:
        self._count = 0
        self._end_of: dict[int, int] = {}
        self._begin_of: dict[int, int] = {}
        self._classes: list[dict[int, None]] = [{} for _ in range(num_pages.bit_length())]
        if num_pages:
            self._add(0, num_pages)

    def __len__(self) -> int:
        return self._count

    def runs(self) -> list[tuple[int, int]]:
        """All maximal runs ``[begin, end)``, in order."""
        return sorted(self._end_of.items())

    def take(self, count: int, after: int | None = None) -> list[int]:
        """``count`` pages, in as few runs as is cheap, the first right behind page ``after`` if
        that is free. ``count`` must not be more than are free."""
        assert count <= self._count, f"{count} pages wanted, {self._count} free"
        taken: list[int] = []
        if count and after is not None and after + 1 in self._end_of:
            taken += self._cut(after + 1, count)
        while len(taken) < count:
            wanted = count - len(taken)
            taken += self._cut(self._best(wanted), wanted)
        return taken

    def give(self, page: int) -> None:
        """Page ``page`` is free again; it joins its free neighbours."""
        begin, end = page, page + 1
        if page in self._begin_of:
            begin = self._begin_of[page]
            self._remove(begin)
        if page + 1 in self._end_of:
            end = self._end_of[page + 1]
            self._remove(page + 1)
        self._add(begin, end)

    def _best(self, wanted: int) -> int:
        """Where the smallest class begins in which every run is enough, else the largest run's."""
        enough = (wanted - 1).bit_length()
        upwards = range(enough, len(self._classes))
        downwards = range(min(enough, len(self._classes)) - 1, -1, -1)
        for size in (*upwards, *downwards):
            if self._classes[size]:
                return _last(self._classes[size])
        raise AssertionError("no run is left")

    def _cut(self, begin: int, wanted: int) -> range:
        end = self._remove(begin)
        cut = min(begin + wanted, end)
        if cut < end:
            self._add(cut, end)
        return range(begin, cut)

    def _add(self, begin: int, end: int) -> None:
        self._end_of[begin], self._begin_of[end] = end, begin
        self._classes[(end - begin).bit_length() - 1][begin] = None
        self._count += end - begin

    def _remove(self, begin: int) -> int:
        end = self._end_of.pop(begin)
        del self._begin_of[end]
        del self._classes[(end - begin).bit_length() - 1][begin]
        self._count -= end - begin
        return end


def _last(begins: dict[int, None]) -> int:
    """The youngest key. Taken out and put back: iterating would walk over deleted entries."""
    begin, _ = begins.popitem()
    begins[begin] = None
    return begin
