"""What the documents say of metrics is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from observability.instruments import ALL
from observability.prometheus import metric_name, series_names

DOCS = Path(__file__).parents[2] / "docs"
KNOWN = {name for instrument in ALL for name in series_names(instrument)}
OURS = re.compile(r"\b(?:gen_ai_server|microserve)_\w+")
LABELS = {"microserve_orchestration"}


def table() -> str:
    """As it stands in docs/observability.md."""
    head = "| OTLP | Prometheus | kind | unit | |\n|---|---|---|---|---|"
    rows = [
        f"| `{i.name}` | `{metric_name(i)}` | {i.kind} | {i.unit} | {i.description} |" for i in ALL
    ]
    return "\n".join([head, *rows])


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DOCS / "grafana.json").read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_every_query_of_the_dashboard_is_of_metrics_that_there_are(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        asked = set(OURS.findall(target["expr"])) - LABELS

        assert asked, target["expr"]
        assert asked <= KNOWN


def test_the_dashboard_shows_what_operators_ask_first() -> None:
    asked = " ".join(target["expr"] for panel in panels() for target in panel["targets"])

    for name in ("time_to_first_token", "pages", "transfer_time", "refusals", "bus_dropped"):
        assert name in asked


def test_the_table_of_metrics_is_that_of_the_instruments() -> None:
    assert table() in (DOCS / "observability.md").read_text()
