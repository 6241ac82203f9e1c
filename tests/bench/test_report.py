import io
import json
from dataclasses import replace

from rich.console import Console

from bench.faults import Noticed
from bench.gateways import SPECS
from bench.report import as_json, bars, ratios, show, summary
from bench.run import Results

UNARY = {"cpu_us": 60.0, "busy": 0.5, "p50_ms": 1.0, "p99_ms": 2.0, "failed": 0, "wrong": 0}
GOOD = Noticed(100, 0, 50, 0, 0, 0, 0.5, 0.1, 0.2)


def results(**per_s: float) -> Results:
    return Results(runs={"unary": {name: [{**UNARY, "per_s": value}] for name, value in per_s.items()}})


def met(found: Results) -> dict[str, bool | None]:
    return {bar.what: bar.met for bar in bars(found, summary(found))}


def test_ours_is_compared_with_the_better_rust_router() -> None:
    """The weaker one does not make us look good."""
    found = Results(
        runs=results(ours=4000, nginx=16_000).runs
        | {"unary": {**results(ours=4000).runs["unary"], **rust(2000, 8000)}}
    )
    [unary] = [one for one in ratios(summary(found)) if one.what == "unary per second"]

    assert unary.to_rust == 0.5
    assert met(found)["unary rate to the best Rust router"] is False


def test_a_bar_that_was_not_measured_is_neither_met_nor_missed() -> None:
    """An empty run fails nothing and proves nothing."""
    assert set(met(Results()).values()) == {None}


def test_one_lost_stream_misses_a_bar() -> None:
    """Zero means zero."""
    clean = Results(faults={"SIGKILL": {"ours": GOOD}})
    broken = Results(faults={"SIGKILL": {"ours": replace(GOOD, streams_truncated=1)}})

    assert met(clean)["lost to SIGKILL"] is True
    assert met(broken)["lost to SIGKILL"] is False


def test_work_that_was_done_twice_misses_a_bar() -> None:
    """A gateway that cuts its own streams and mends them is found out, though clients see them whole."""
    mended = Results(runs={"paced": {"ours": [{"busy": 0.1, "hidden": 0}, {"busy": 0.1, "hidden": 512}]}})
    early = Results(gateway_kill={"lost": 0, "truncated": 0, "wrong": 0, "resumed": 150, "resumed_early": 50})

    assert met(mended)["retries and resumes with nothing wrong"] is False
    assert met(early)["lost to a killed gateway"] is True
    assert met(early)["resumed before the gateway was killed"] is False


def test_a_run_can_be_shown_and_kept() -> None:
    """Every section appears in the tables and in JSON that can be read again."""
    found = results(ours=4000, nginx=16_000)
    found.faults = {"SIGKILL": {"ours": GOOD, "nginx": replace(GOOD, streams_truncated=3)}}
    found.hangup = {"ours": {"stream_max_ms": 4.0, "unary_max_ms": 5.0}}
    found.gateway_kill = {"asked": 150, "resumed": 25, "lost": 0, "truncated": 0, "wrong": 0}
    text = io.StringIO()
    show(found, SPECS, {"litellm": "it is not installed"}, Console(file=text, width=160))

    assert "0/100 + 3/50" in text.getvalue()
    assert "Not measured: litellm: it is not installed" in text.getvalue()
    kept = json.loads(json.dumps(as_json(found, {})))
    assert kept["medians"]["unary"]["ours"]["per_core_s"] == 8000
    assert kept["gateway_kill"]["resumed"] == 25


def rust(sglang: float, vllm: float) -> dict[str, list[dict[str, float]]]:
    return {"sglang-router": [{**UNARY, "per_s": sglang}], "vllm-router": [{**UNARY, "per_s": vllm}]}
