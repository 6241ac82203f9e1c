from __future__ import annotations

import random
from pathlib import Path

from fleet.rehearsal.answers import Answer
from fleet.rehearsal.nodes import LogEvent
from fleet.rehearsal.report import Facts, Interruption, NodeLife
from fleet.rehearsal.timeline import draw

T0 = 1000.0
PNG = b"\x89PNG\r\n\x1a\n"


def life(name: str, tier: str, option: str, launched: float, **times: float) -> NodeLife:
    return NodeLife(
        instance_id=name,
        tier=tier,
        address="127.0.16.4",
        availability_zone="us-east-1a",
        instance_type="c7i.large",
        purchase_option=option,
        hourly_price=0.03,
        launched_at=T0 + launched,
        **{key: T0 + value for key, value in times.items()},
    )


def answer(ended: float, error: str | None = None) -> Answer:
    return Answer(0, "generate", "k", T0 + ended - 1, T0 + ended, None, "text", "stop", 1, 0, True, error)


def some_facts() -> Facts:
    draw_from = random.Random(1)
    lives = [
        life("i-0a01", "gateway", "on-demand", -20, healthy_at=-12),
        life("i-0a02", "gateway", "spot", -20, healthy_at=-11, gone_at=46),
        life("i-0a03", "gateway", "spot", 26, healthy_at=33),
        life("i-0b01", "model", "on-demand", -20, healthy_at=-9),
        life("i-0b02", "model", "spot", -20, healthy_at=-9, gone_at=17),
        life("i-0b03", "model", "spot", -20, healthy_at=-8, gone_at=40),
        life("i-0b04", "model", "spot", 5.6, healthy_at=12),
        life("i-0b05", "model", "spot", 47, healthy_at=55),
    ]
    log = [
        LogEvent(T0 + 5.4, "drain.started", "i-0b02", "model"),
        LogEvent(T0 + 14, "drain.empty", "i-0b02", "model"),
        LogEvent(T0 + 26, "drain.started", "i-0a02", "gateway"),
        LogEvent(T0 + 44, "drain.empty", "i-0a02", "gateway"),
    ]
    interruptions = [
        Interruption("spot", "model", "i-0b02", "spot", T0 + 5, T0 + 17, "i-0b04", T0 + 12),
        Interruption("spot", "gateway", "i-0a02", "spot", T0 + 25.5, T0 + 46, "i-0a03", T0 + 33),
        Interruption("kill", "model", "i-0b03", "spot", T0 + 40, T0 + 40, "i-0b05", T0 + 55),
        Interruption("scale-in", "model", "i-0b05", "spot", T0 + 58),
    ]
    answers = [answer(draw_from.uniform(0, 62)) for _ in range(800)] + [answer(41, "gone")]
    return Facts(answers, {"k": "text"}, log, interruptions, lives, T0, T0 + 62, 0.0, 0.0, {}, {})


def test_draws(tmp_path: Path) -> None:
    """A whole rehearsal becomes a PNG of some size."""
    draw(some_facts(), tmp_path / "fleet.png")
    assert (tmp_path / "fleet.png").read_bytes().startswith(PNG)
    assert (tmp_path / "fleet.png").stat().st_size > 20_000


def test_nothing_happened(tmp_path: Path) -> None:
    """A rehearsal that ended before its first answer can still be drawn."""
    draw(Facts([], {}, [], [], [], T0, T0, 0.0, 0.0, {}, {}), tmp_path / "fleet.png")
    assert (tmp_path / "fleet.png").read_bytes().startswith(PNG)
