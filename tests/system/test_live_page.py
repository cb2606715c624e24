"""The live page in a real browser, before a whole fleet in one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from bus.fleet import Role
from bus.public import GenerateRequest
from orchestrations.registry import FOLDER
from tests.system.chromium import HOW, Tab, browser, find, tab
from tests.system.fleet import Fleet, fake_model, fleet
from tests.system.gateway import gateway

ENGINES: dict[str, Role] = {"p0": "prefill", "d0": "decode", "d1": "decode"}
PROMPT = "Why is the sky blue?"


@pytest.fixture(scope="module")
def chromium() -> Iterator[str]:
    """One browser for all tests of this file; each has a page of its own."""
    binary = find()
    if binary is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW)
    with browser(binary) as address:
        yield address


@asynccontextmanager
async def page_before_a_fleet(chromium: str, *keys: str) -> AsyncIterator[tuple[Fleet, Tab]]:
    """A page that has seen all engines, unless it has to give a key first."""
    async with (
        fleet(fake_model(step_s=0.05), ENGINES) as system,
        gateway(system, *keys) as host,
        tab(chromium, f"{host.url}/live") as page,
    ):
        if keys:
            yield system, page
            return
        await page.until("document.querySelectorAll('.engine.alive').length === 3")
        yield system, page
        assert page.complaints == []


LONG = 900
"""Tokens of an answer that takes a minute: it is cancelled when what it is for has been seen."""


def ask(
    system: Fleet, num_tokens: int, orchestration: str = "disaggregated"
) -> asyncio.Task[object]:
    asked = GenerateRequest(PROMPT, max_tokens=num_tokens, orchestration=orchestration)
    return asyncio.create_task(system.ask(asked))


async def cancelled(answer: asyncio.Task[object]) -> None:
    answer.cancel()
    await asyncio.gather(answer, return_exceptions=True)


async def test_flows_appear_move_and_end_and_a_killed_engine_is_shown(chromium: str) -> None:
    async with page_before_a_fleet(chromium) as (system, page):
        answer = ask(system, LONG)
        shown = await page.until("document.querySelector('#list li')?.textContent")
        await page.until("document.querySelector('[data-state=Generating]')?.textContent === '1'")
        painted = await page.until(
            "[...document.getElementById('dots').getContext('2d')"
            ".getImageData(0, 0, 800, 600).data].some(Boolean)"
        )
        system.members["d1"].kill()
        lost = await page.until("document.querySelector('.engine.lost')?.dataset.engine")
        await cancelled(answer)
        await page.until("document.querySelectorAll('#list li').length === 0")
        ended = await page.until("document.querySelector('[data-state=Generating]').textContent")

        assert "Generating" in shown or "Sending" in shown or "Preparing" in shown
        assert (painted, lost, ended) == (True, "d1", "0")


async def test_all_of_it_is_reached_by_keyboard(chromium: str) -> None:
    async with page_before_a_fleet(chromium) as (system, page):
        await asyncio.gather(ask(system, 4), ask(system, 6))
        answer = ask(system, LONG)
        await page.until("document.querySelector('[data-state=Generating]')?.textContent === '1'")

        await page.press("j")
        await page.press("Enter")
        spans = "[...document.querySelectorAll('#drawer [data-span]')].map(x => x.dataset.span)"
        await page.until(f"{spans}.includes('send StartGenerate')")
        prompt = await page.until("document.querySelector('[data-said=prompt]')?.textContent")
        tokens = "document.querySelectorAll('[data-said=answer] .token').length"
        fewer = await page.until(tokens)
        more = await page.until(f"{tokens} > {fewer} && {tokens}")
        await page.press("Escape")
        await page.until("!document.getElementById('drawer').open")
        await page.press("s")
        source = await page.until("document.querySelector('[data-source]')?.textContent")
        await page.press("Escape")
        await page.until("!document.getElementById('drawer').open")
        await cancelled(answer)
        await page.press("2")
        rows = await page.until("document.querySelectorAll('#table tbody tr').length")
        await page.press("3")
        flows = "document.querySelector('[data-figure=jct] .number')?.textContent"
        await page.until(f"{flows} === '3'")
        await page.press("t")
        theme = await page.run("document.documentElement.dataset.theme")

        assert prompt == "".join(f"{byte} " for byte in PROMPT.encode())
        assert more > fewer
        assert "def disaggregated(state: State, event: Event) -> Step:" in source
        assert (rows, theme) == (3, "dark")


REFUSING = """
const real = window.fetch;
window.fetch = (path, ...rest) => path.startsWith("/live/diagrams/data_parallel")
  ? Promise.resolve(new Response('{"error": {"message": "it cannot be drawn"}}', {status: 422}))
  : real(path, ...rest);
"""


async def test_of_a_strategy_that_cannot_be_drawn_no_other_ones_picture_is_shown(
    chromium: str,
) -> None:
    async with page_before_a_fleet(chromium) as (system, page):
        await page.run(REFUSING)
        await ask(system, 2)
        await page.until("document.querySelector('[data-state=Sending]') !== null")

        await ask(system, 2, "data_parallel")
        await page.until("document.querySelectorAll('[role=tab]').length === 2")
        await page.run(
            "[...document.querySelectorAll('[role=tab]')]"
            ".find(tab => tab.dataset.ref.startsWith('data_parallel')).click()"
        )
        told = await page.until(
            "!document.getElementById('empty').hidden && document.getElementById('empty').innerText"
        )
        drawn = await page.run("document.getElementById('diagram').children.length")

        assert (told, drawn) == ("it cannot be drawn", 0)


async def test_what_somebody_wrote_is_never_markup(chromium: str) -> None:
    evil = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    async with page_before_a_fleet(chromium) as (system, page):
        source = (FOLDER / "disaggregated.py").read_text() + f"# {evil}\n"
        await system.versions.add("disaggregated", source, evil, evil)
        await ask(system, 2)
        await page.until("document.getElementById('source') !== null")

        await page.press("s")
        link = (
            "[...document.querySelectorAll('#drawer .link')]"
            ".find(link => link.textContent === 'disaggregated@1')"
        )
        await page.until(f"{link} !== undefined")
        await page.run(f"{link}.click()")
        await page.until("document.querySelector('[data-source=\"disaggregated@1\"]') !== null")
        shown = await page.run("document.querySelector('[data-source]').textContent")
        table = await page.run("document.querySelector('#drawer .versions').textContent")
        made = await page.run("document.querySelectorAll('#drawer img, #drawer script').length")
        title = await page.run("document.title")

        assert shown.endswith(f"# {evil}")
        assert table.count(evil) == 2
        assert (made, title) == (0, "microserve")


async def test_where_there_are_keys_the_page_asks_for_one(chromium: str) -> None:
    async with page_before_a_fleet(chromium, "secret") as (_, page):
        await page.until("document.getElementById('login')?.open")

        await page.run("document.querySelector('#login input').value = 'secret'")
        await page.run("document.querySelector('#login form button').click()")

        assert await page.until("document.querySelectorAll('.engine.alive').length === 3")
