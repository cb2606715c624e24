"""The benchmark of the engine runs, in a short form, with whatever peers there are: here none."""

from __future__ import annotations

import asyncio
import math

from bench.engine import PEERS, Plan, Rates, _compared, measure


def test_without_peers_our_own_figures_remain_and_each_peer_is_named_with_how_to_get_it() -> None:
    sizes = {"num_prompt": 20, "num_new": 3, "num_rounds": 1, "num_sequences": 2}
    plan = Plan(threads=(1,), batches=(1, 2), large_bytes=1 << 20, **sizes)

    result = asyncio.run(measure(plan, {}))

    assert set(result.ratios) == {
        "decode_b1_vs_memory_bandwidth",
        "decode_b2_vs_memory_bandwidth",
        "outside_the_network_share",
        "outside_the_network_share_sampled",
    }
    assert result.figures["peers"] == "none"
    assert all(how in str(result.figures["missing_peers"]) for how in PEERS.values())
    assert float(result.figures["microserve_decode_b2_per_s"]) > 0
    assert float(result.figures["memory_beyond_caches_gb_per_s"]) > 0
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in result.ratios.values())


def test_a_ratio_is_to_the_best_of_the_peers_that_are_there() -> None:
    plan = Plan(batches=(8,))
    rates = Rates(
        {
            (engine, what): [speed, 1.0, 99.0]
            for engine, speed in (("microserve", 30.0), ("llamacpp", 20.0), ("vllm", 40.0))
            for what in ("prefill", "decode_b8")
        }
    )

    ratios = _compared(plan, rates, ["llamacpp", "vllm"])

    assert ratios["decode_b8_vs_best_peer"] == 0.75
    assert ratios["decode_b8_vs_llama_cpp"] == 1.5
    assert ratios["prefill_vs_vllm"] == 0.75
