"""Conversions happen once, survive damage and races, and do without a cache."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from engine.conversion_cache import LISTING, converted
from engine.file_digest import sampled_digest
from engine.model_errors import BrokenModel


class Converter:
    """Writes a file that says what it was made of, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, source: Path, folder: Path) -> None:
        self.calls += 1
        (folder / "made").write_text(f"of {source.read_text()}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("one")
    return path


def test_a_file_is_converted_once(source: Path, tmp_path: Path) -> None:
    convert = Converter()

    folders = [converted(source, tmp_path / "cache", convert) for _ in range(3)]

    assert convert.calls == 1
    assert len(set(folders)) == 1
    assert (folders[0] / "made").read_text() == "of one"


def test_other_contents_under_the_same_name_are_converted_anew(
    source: Path, tmp_path: Path
) -> None:
    first = converted(source, tmp_path / "cache", Converter())
    source.write_text("two")

    second = converted(source, tmp_path / "cache", Converter())

    assert (first / "made").read_text() == "of one"
    assert (second / "made").read_text() == "of two"


@pytest.mark.parametrize("damage", ["truncate", "remove", "listing", "half-listing"])
def test_a_damaged_conversion_is_made_again(damage: str, source: Path, tmp_path: Path) -> None:
    folder = converted(source, tmp_path / "cache", Converter())
    match damage:
        case "truncate":
            os.truncate(folder / "made", 3)
        case "remove":
            (folder / "made").unlink()
        case "listing":
            (folder / LISTING).unlink()
        case _:
            os.truncate(folder / LISTING, 10)
    convert = Converter()

    again = converted(source, tmp_path / "cache", convert)

    assert convert.calls == 1
    assert (again / "made").read_text() == "of one"


def test_what_a_killed_process_left_is_swept_away(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = converted(source, cache, Converter())
    left = folder.rename(folder.with_suffix(".part"))
    (left / "more").touch()

    again = converted(source, cache, Converter())

    assert not left.exists()
    assert sorted(path.name for path in again.iterdir()) == [LISTING, "made"]


def test_of_several_at_the_same_moment_one_converts(source: Path, tmp_path: Path) -> None:
    convert, together = Converter(), Barrier(4)

    def ask(_: int) -> Path:
        together.wait()
        return converted(source, tmp_path / "cache", convert)

    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(ask, range(4)))

    assert convert.calls == 1
    assert len(folders) == 1


def test_a_failed_conversion_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def fail(source: Path, folder: Path) -> None:
        (folder / "half").touch()
        raise BrokenModel(source, "is broken")

    with pytest.raises(BrokenModel):
        converted(source, tmp_path / "cache", fail)

    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_without_a_place_for_the_cache_a_temporary_folder_serves(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    with caplog.at_level(logging.WARNING):
        folder = converted(source, in_the_way / "cache", Converter())

    assert (folder / "made").read_text() == "of one"
    assert "cannot cache the converted model" in caplog.text


def test_digests_tell_sizes_heads_middles_and_tails_apart(tmp_path: Path) -> None:
    data = bytearray(10_000_000)
    changed = [bytes(data), bytes(data[:-1])]
    for place in (0, 5_990_000, len(data) - 1):
        data[place] ^= 1
        changed.append(bytes(data))
        data[place] ^= 1
    paths = [tmp_path / str(index) for index in range(len(changed))]
    for path, contents in zip(paths, changed, strict=True):
        path.write_bytes(contents)

    assert len({sampled_digest(path) for path in paths}) == len(paths)
