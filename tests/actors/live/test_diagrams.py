"""Strategies as the page shows them: source, versions, whom they serve, and their diagram."""

from __future__ import annotations

import pytest

from actors.live.diagrams import NotDrawn, Strategies, read_ref
from actors.version_store import UnknownVersion, VersionStore
from actors.versions import Ref
from bus.memory_buckets import MemoryBuckets
from orchestrations.registry import FOLDER

NAME = "data_parallel"
SOURCE = (FOLDER / f"{NAME}.py").read_text()


async def store() -> VersionStore:
    return await VersionStore.open(MemoryBuckets(), "ms")


async def test_a_version_is_shown_with_its_source_and_everybodys_share() -> None:
    versions = await store()
    version = await versions.add(NAME, f"{SOURCE}\n# mine\n", "mine.py", "well")
    await versions.activate(NAME, version.ref, 0.25)
    await versions.activate(None, version.ref, 1.0)

    view = await Strategies(versions).view(version.ref)

    assert (view.ref, view.source) == (f"{NAME}@1", f"{SOURCE}\n# mine\n")
    assert [(line.ref, line.origin, line.serves) for line in view.versions] == [
        (f"{NAME}@installed", "installed", (f"75% of requests for {NAME}",)),
        (
            f"{NAME}@1",
            "mine.py",
            ("100% of requests that name no orchestration", f"25% of requests for {NAME}"),
        ),
    ]


async def test_without_a_store_what_is_installed_serves_all_who_ask_for_it() -> None:
    view = await Strategies(None).view(Ref(NAME))

    assert (view.source, len(view.versions)) == (SOURCE, 1)
    assert view.versions[0].serves == (f"all requests for {NAME}",)


async def test_a_version_is_drawn_as_its_text_says_by_a_process_of_its_own() -> None:
    versions = await store()
    version = await versions.add(NAME, SOURCE, "mine.py", "well")

    drawn = await Strategies(versions).diagram(version.ref)

    assert drawn.states == ("Idle", "Generating", "Done")
    assert [(line.begin, line.end) for line in drawn.lines] == [(0, 1), (1, 2)]


async def test_what_cannot_be_walked_is_told_with_its_reason() -> None:
    versions = await store()
    version = await versions.add(NAME, "import os\n", "mine.py", "never checked")

    with pytest.raises(NotDrawn, match="cannot be drawn"):
        await Strategies(versions).diagram(version.ref)


@pytest.mark.parametrize("text", ["nobody", "nobody@3", f"{NAME}@7"])
async def test_what_there_is_not_is_told(text: str) -> None:
    with pytest.raises(UnknownVersion, match="no version"):
        await Strategies(await store()).view(read_ref(text))


@pytest.mark.parametrize(
    ("text", "ref"),
    [("a", Ref("a")), ("a@installed", Ref("a")), ("a@3", Ref("a", 3))],
)
def test_a_version_is_named_as_it_is_written(text: str, ref: Ref) -> None:
    assert read_ref(text) == ref
