"""What Prometheus is told, and who is let in."""

from __future__ import annotations

from actors.gateway.keys import Keys, read_keys
from actors.gateway.metrics import Metrics, Timed


def test_histograms_count_what_is_at_most_the_bound() -> None:
    metrics = Metrics()
    metrics.observe(Timed("m", "chat", 1.28, 0.25, 11), ["m"])
    metrics.observe(Timed("m", "chat", 100.0, 0.251, 2), ["m"])

    lines = metrics.text([]).splitlines()

    labels = 'gen_ai_operation_name="chat",gen_ai_request_model="m"'
    assert f'gen_ai_server_request_duration_seconds_bucket{{{labels},le="0.64"}} 0' in lines
    assert f'gen_ai_server_request_duration_seconds_bucket{{{labels},le="1.28"}} 1' in lines
    assert f'gen_ai_server_request_duration_seconds_bucket{{{labels},le="+Inf"}} 2' in lines
    assert f"gen_ai_server_request_duration_seconds_sum{{{labels}}} 101.28" in lines
    assert f'gen_ai_server_time_to_first_token_seconds_bucket{{{labels},le="0.25"}} 1' in lines
    assert f"microserve_gateway_output_tokens_total{{{labels}}} 13" in lines


def test_a_strangers_model_makes_no_series_of_its_own() -> None:
    metrics = Metrics()

    metrics.observe(Timed('evil"\n', "chat", 1.0, None, 0, "404"), ["m"])

    text = metrics.text([])
    assert "evil" not in text
    assert 'gen_ai_request_model="other",error_type="404"' in text


def test_only_a_key_that_was_given_opens() -> None:
    keys = Keys(read_keys("# mine\nsecret\n\n other \n"))

    assert keys.admits("Bearer secret")
    assert keys.admits("bearer other")
    assert not any(map(keys.admits, ("", "secret", "Basic secret", "Bearer # mine", "Bearer ")))
    assert Keys([]).admits("")
