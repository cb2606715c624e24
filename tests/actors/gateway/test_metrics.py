"""What the gateway measures, and who is let in."""

from __future__ import annotations

from actors.gateway.keys import Keys, read_keys
from actors.gateway.metrics import Metrics, labels
from observability import prometheus
from observability.request_times import Timed


def test_a_strangers_model_makes_no_series_of_its_own() -> None:
    metrics = Metrics()

    metrics.observe(Timed(labels("chat", 'evil"\n', ["m"]), 1.0, None, 0, error="404"))

    text = prometheus.text(metrics.points([]))
    assert "evil" not in text
    assert 'gen_ai_request_model="other",error_type="404"' in text


def test_only_a_key_that_was_given_opens() -> None:
    keys = Keys(read_keys("# mine\nsecret\n\n other \n"))

    assert keys.admits("Bearer secret")
    assert keys.admits("bearer other")
    assert not any(map(keys.admits, ("", "secret", "Basic secret", "Bearer # mine", "Bearer ")))
    assert Keys([]).admits("")
