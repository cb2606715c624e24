"""Which full pages hold which tokens after which tokens: a tree with a page at every node.

```
root --"the cat sat "--> page 7 --"on the mat. "--> page 8
                              \\--"on the dog. "--> page 3
```

The key of a child is its tokens themselves, so a match is exact: no hash can be mistaken for
another. Outside of this tree (in the second tier, in pins) a page is known by its digest. The tree
knows pages only; who refers to a page is the business of `engine.pages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from bus.prefixes import ROOT, page_hash

from .journal import Journal
from .runner import Ids

ID_BYTES = 4
DIGEST_BYTES = 16
"""Two different prefixes of one digest are less likely than a memory error."""


class Node:
    """One cached page: ``key`` is the packed tokens in it, ``parent`` what must come before.

    ``hash`` is what routers know it by.
    """

    __slots__ = ("_digest", "children", "hash", "key", "page", "parent")

    def __init__(self, parent: Node | None, key: bytes, page: int) -> None:
        self.parent, self.key, self.page = parent, key, page
        self.hash: int = page_hash(parent.hash, key) if parent else ROOT
        self.children: dict[bytes, Node] = {}
        self._digest: bytes | None = None if parent else b""

    @property
    def digest(self) -> bytes:
        """A name for all tokens up to the end of this page, the same in every process. Made when
        it is first asked for, with those of the pages before it."""
        unnamed: list[Node] = []
        node = self
        while node._digest is None:
            unnamed.append(node)
            assert node.parent is not None, "the root has a digest"
            node = node.parent
        digest = node._digest
        for node in reversed(unnamed):
            digest = node._digest = digest_after(digest, node.key)
        return digest


def digest_after(before: bytes, key: bytes) -> bytes:
    """The digest of a page of ``key`` after a page of the digest ``before``."""
    return blake2b(before + key, digest_size=DIGEST_BYTES).digest()


class PrefixCache:
    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._root = Node(None, b"", -1)
        self._by_page: dict[int, Node] = {}
        self.journal = Journal()

    def __len__(self) -> int:
        return len(self._by_page)

    def __contains__(self, page: int) -> bool:
        return page in self._by_page

    def node(self, page: int) -> Node:
        return self._by_page[page]

    def nodes(self) -> Iterator[Node]:
        return iter(self._by_page.values())

    def digests(self, tokens: Ids, adapter: str = "", after: Node | None = None) -> Iterator[bytes]:
        """Of every full page that ``tokens`` make, the first behind ``after`` (None: at the start),
        made one by one as they are asked for."""
        packed, size = tokens.tobytes(), self._page_size * ID_BYTES
        digest = (after or self._root).digest
        for begin in range(0, len(packed) - size + 1, size):
            key = packed[begin : begin + size]
            digest = digest_after(digest, key if begin or after else _first_key(key, adapter))
            yield digest

    def match(self, tokens: Ids, adapter: str = "") -> list[Node]:
        """The longest cached path of full pages at the start of ``tokens``, root side first, of
        those that were computed with ``adapter``.

        Changes nothing. Time is linear in the tokens matched.
        """
        packed, size = tokens.tobytes(), self._page_size * ID_BYTES
        node, path = self._root, []
        for begin in range(0, len(packed) - size + 1, size):
            key = packed[begin : begin + size]
            child = node.children.get(key if begin else _first_key(key, adapter))
            if child is None:
                break
            path.append(child)
            node = child
        return path

    def insert(self, parent: Node | None, tokens: Ids, page: int, adapter: str = "") -> Node:
        """The node for the full page ``tokens`` under ``parent`` (None: at the start).

        It may hold another page than ``page``: the first to come is the one that is cached.
        """
        assert len(tokens) == self._page_size
        above, key = parent or self._root, tokens.tobytes()
        key = key if parent else _first_key(key, adapter)
        found = above.children.get(key)
        if found is not None:
            return found
        node = above.children[key] = self._by_page[page] = Node(above, key, page)
        self.journal.stored(node.hash)
        return node

    def remove(self, page: int) -> None:
        """Forget a page that nothing cached comes after."""
        node = self._by_page.pop(page)
        assert not node.children, f"page {page} is evicted before what comes after it"
        assert node.parent is not None
        del node.parent.children[node.key]
        self.journal.evicted(node.hash)

    def parent_page(self, node: Node) -> int | None:
        """The page before this one; None at the start of a prompt."""
        return None if node.parent is self._root or node.parent is None else node.parent.page


def _first_key(packed: bytes, adapter: str) -> bytes:
    """Adapters part at the root: what comes after has come after the same adapter."""
    return packed + adapter.encode()
