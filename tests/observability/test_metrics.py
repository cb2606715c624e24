"""Points, and how Prometheus is told of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observability import instruments, prometheus
from observability.metrics import Distribution, Histogram, Instrument, Point, distributed
from observability.request_times import RequestTimes, Timed

LABELS = (("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "m"))
SHOWN = 'gen_ai_operation_name="chat",gen_ai_request_model="m"'


def lines(*timed: Timed) -> list[str]:
    times = RequestTimes()
    for one in timed:
        times.observe(one)
    return prometheus.text(times.points()).splitlines()


def test_histograms_count_what_is_at_most_the_bound() -> None:
    told = lines(Timed(LABELS, 1.28, 0.25, 11), Timed(LABELS, 100.0, 0.251, 2))

    name = "gen_ai_server_request_duration_seconds"
    assert f'{name}_bucket{{{SHOWN},le="0.64"}} 0' in told
    assert f'{name}_bucket{{{SHOWN},le="1.28"}} 1' in told
    assert f'{name}_bucket{{{SHOWN},le="81.92"}} 1' in told
    assert f'{name}_bucket{{{SHOWN},le="+Inf"}} 2' in told
    assert f"{name}_sum{{{SHOWN}}} 101.28" in told
    assert f"{name}_count{{{SHOWN}}} 2" in told
    assert f'gen_ai_server_time_to_first_token_seconds_bucket{{{SHOWN},le="0.25"}} 1' in told
    assert f"microserve_output_tokens_total{{{SHOWN}}} 13" in told


def test_time_per_token_is_that_between_the_tokens_of_one_answer() -> None:
    told = lines(Timed(LABELS, 1.0, 0.2, 15, num_answers=3))

    assert f"gen_ai_server_time_per_output_token_seconds_sum{{{SHOWN}}} 0.2" in told


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    assert not any("per_output_token" in line for line in lines(Timed(LABELS, 1.0, 1.0, 1)))


def test_a_request_without_a_token_has_a_duration_only_with_its_error() -> None:
    told = lines(Timed(LABELS, 0.5, None, 0, error="refused"))

    labels = f'{SHOWN},error_type="refused"'
    assert f"gen_ai_server_request_duration_seconds_count{{{labels}}} 1" in told
    assert not any("first_token" in line for line in told)


def test_labels_are_quoted_as_prometheus_reads_them() -> None:
    point = Point(instruments.FLOWS, 2, {"odd.name": 'a"b\\c\nd'})

    assert 'microserve_router_flows{odd_name="a\\"b\\\\c\\nd"} 2' in prometheus.text([point])


def test_the_points_of_one_instrument_stand_together() -> None:
    points = [
        Point(instruments.PAGES, 1, {"owner": "free"}),
        Point(instruments.STEPS, 9),
        Point(instruments.PAGES, 2, {"owner": "used"}),
    ]

    told = [line for line in prometheus.text(points).splitlines() if not line.startswith("#")]

    assert [line.split("{")[0].split(" ")[0] for line in told] == [
        "microserve_engine_pages",
        "microserve_engine_pages",
        "microserve_engine_steps_total",
    ]


def test_every_name_is_told_once_and_ends_as_prometheus_wants_it() -> None:
    names = [prometheus.metric_name(instrument) for instrument in instruments.ALL]

    assert len(set(names)) == len(names)
    for name, instrument in zip(names, instruments.ALL, strict=True):
        assert name.endswith("_total") == (instrument.kind == "counter")
        assert instrument.description.endswith(".")


def test_a_value_on_no_bound_falls_between() -> None:
    histogram = Histogram(Instrument("x", "histogram", "s", "X.", (1.0, 2.0)))
    for value in (0.5, 1.0, 1.5, 2.5):
        histogram.observe(value)

    point = histogram.point({})

    assert isinstance(point.value, Distribution)
    assert (point.value.counts, point.value.sum, point.value.count) == ((2, 1, 1), 5.5, 4)


@given(st.lists(st.integers(0, 5), max_size=300))
def test_whole_numbers_are_distributed_as_if_each_had_been_observed(times: list[int]) -> None:
    one_by_one = Histogram(instruments.STEP_SEQUENCES)
    for value, count in enumerate(times):
        for _ in range(count):
            one_by_one.observe(value)

    assert distributed(instruments.STEP_SEQUENCES, times) == one_by_one.point({}).value
