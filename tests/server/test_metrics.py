"""The page of metrics, and what the registry says of the process."""

from pathlib import Path

from server.metrics import Metrics, document

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_every_metric_is_documented():
    """docs/metrics.md is what `python -m server.metrics` prints."""
    assert PAGE.read_text() == document(), "run: python -m server.metrics > docs/metrics.md"


def test_nothing_is_exposed_that_the_page_does_not_name():
    """Whatever is registered behind the table's back is found."""
    page = PAGE.read_text()
    names = {family.name for family in Metrics().registry.collect()}
    assert names
    assert [name for name in sorted(names) if f"`{name}`" not in page and f"`{name}_total`" not in page] == []


def test_the_process_s_cpu_and_memory_are_there():
    """Read from /proc at each scrape."""
    text = Metrics().exposition().decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines["process_cpu_seconds_total"]) > 0
    assert float(lines["process_resident_memory_bytes"]) > 1_000_000


def test_a_value_is_read_when_it_is_asked_for():
    """Gauges follow what they watch, with a label and without."""
    metrics = Metrics()
    states = {"ready": 2.0}
    metrics.read("in_flight", lambda: len(states))
    metrics.read_by_label("nodes", lambda: states)
    states["down"] = 1.0
    text = metrics.exposition().decode()
    assert "goldenfleet_in_flight 2.0" in text
    assert 'goldenfleet_nodes{state="down"} 1.0' in text
