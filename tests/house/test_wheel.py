"""What is installed has everything that it serves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = "actors/live/page/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return ZipFile(path)


def test_the_wheel_has_every_file_of_the_live_page(wheel: ZipFile) -> None:
    there = {f"{PAGE}{path.name}" for path in (ROOT / PAGE).iterdir()}

    assert there <= set(wheel.namelist())


def test_the_live_page_needs_nothing_but_its_own_files(wheel: ZipFile) -> None:
    files = [name for name in wheel.namelist() if name.startswith(PAGE)]
    texts = {name: wheel.read(name).decode() for name in files}

    wanted = {
        name
        for text in texts.values()
        for name in re.findall(r'(?:href|src)="([^"]+)"|from "([^"]+)"|url\("?([^)"]+)', text)
        for name in name
        if name
    }
    named = {PAGE + name.removeprefix("/live/page/").removeprefix("./") for name in wanted}
    own = {name for name in named if "#" not in name}
    assert own <= set(files)
    assert len(own) > 10
    for name, text in texts.items():
        outside = set(re.findall(r"https?://[^\"'\s]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not outside, f"{name} names {outside}"
