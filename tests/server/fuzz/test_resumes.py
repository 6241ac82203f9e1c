"""Random generations, cut at random bytes several times, against what the undisturbed ones said."""

from random import Random
from typing import Any

from tests.server.fuzz.cases import each
from tests.server.fuzz.conftest import Troubles
from tests.server.fuzz.engines import RawEngine
from tests.server.fuzz.generations import Generation, random_generation

ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "P"}]}),
    ("/v1/completions", {"prompt": "P"}),
]


class Engines:
    """Answer each request as the generation that its id names."""

    def __init__(self) -> None:
        self.generations: dict[bytes, Generation] = {}

    def answer(self, head: bytes, body: bytes) -> list[bytes]:
        given = next(line[14:] for line in head.split(b"\r\n") if line.startswith(b"x-request-id: "))
        return self.generations[given].answer(head, body)


def said(got: Any, *, counted: bool) -> tuple[Any, ...]:
    """Text, finish reasons, usage and the last word of a stream."""
    chunks = [item for item in got.data if isinstance(item, dict)]
    reasons = [c["finish_reason"] for chunk in chunks for c in chunk.get("choices", ()) if c["finish_reason"]]
    usage = [chunk["usage"] for chunk in chunks if chunk.get("usage")] if counted else None
    return got.text, reasons, usage, got.data[-1]


async def test_a_generation_survives_any_cuts(stage: Any, troubles: Troubles) -> None:
    """Text, finish reason and end are those of the undisturbed stream, or the client is told in words."""
    engines = Engines()
    addresses = [await RawEngine(engines.answer).open(stage.stack) for _ in range(6)]
    gateway = await stage.gateway(*addresses, max_attempts=10)
    counts = {"resumed": 0, "unsupported": 0}

    async def check(rng: Random) -> None:
        generation, asked = random_generation(rng)
        path, body = rng.choice(ROUTES)
        number = len(engines.generations)
        cuts, generation.cuts = generation.cuts, []
        engines.generations[b"g-%d" % number] = generation
        expected = await gateway.post(path, body | asked, {"x-request-id": f"g-{number}"})
        generation.cuts = cuts
        generation.asked.clear()
        got = await gateway.post(path, body | asked, {"x-request-id": f"g-{number}"})
        case = (generation.kind, path, asked.get("stop"), generation.text, generation.asked, got.body)
        assert got.clean, case
        if got.data[-1] != "[DONE]":
            counts["unsupported"] += 1
            assert got.error["code"] == "resume_unsupported", case
            assert expected.text.startswith(got.text), case
            return
        counts["resumed"] += len(generation.asked) > 1
        counted = asked["max_tokens"] < 10_000
        assert said(got, counted=counted) == said(expected, counted=counted), case

    await each("resumes", 250, check)
    assert gateway.events("request.failed") == []
    assert counts["resumed"] > 10 * counts["unsupported"], counts
