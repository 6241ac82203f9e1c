"""Lost requests: what gateways' counters say, and what they do not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from fleet.console.losses import Counters, Gateway, ask, read

EXPOSITION = """\
# TYPE goldenfleet_tenant_requests_total counter
goldenfleet_tenant_requests_total{model="m",result="ok",tenant="a"} 90.0
goldenfleet_tenant_requests_total{model="m",result="failed",tenant="a"} 2.0
goldenfleet_tenant_requests_total{model="other",result="failed",tenant="b"} 1.0
goldenfleet_tenant_requests_total{model="m",result="refused",tenant="b"} 7.0
goldenfleet_tenant_requests_created{model="m",result="failed",tenant="b"} 1.7e+09
"""


def gateway(name: str, launched_at: float = 0.0) -> Gateway:
    return Gateway(name, "127.0.0.1", launched_at)


def test_only_what_failed_counts() -> None:
    """What clients did wrong, and when a counter was made, is no loss; nothing at all is none."""
    assert read(EXPOSITION) == 3
    assert read("") == 0


def test_losses_before_the_console_began_are_not_new() -> None:
    """A gateway that is older than the console begins at its counter, a younger one at 0."""
    counters = Counters(since=100.0)
    assert counters.look([gateway("old"), gateway("young", 150.0)], {"old": 40, "young": 2}) == 2
    assert counters.look([gateway("old"), gateway("young", 150.0)], {"old": 41, "young": 2}) == 3


def test_losses_stay_when_their_gateway_goes() -> None:
    """Neither a gateway that is gone nor one that started anew takes anything back."""
    counters = Counters(since=100.0)
    counters.look([gateway("a")], {"a": 5})
    assert counters.look([gateway("a")], {"a": 8}) == 3
    assert counters.look([gateway("a")], {"a": 1}) == 4
    assert counters.look([], {}) == 4


@pytest.fixture
def rude() -> Iterator[int]:
    """A port where whoever asks gets nonsense."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as asked:
                asked.recv(1000)
                asked.sendall(b"moo\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_who_does_not_answer_is_not_counted(rude: int) -> None:
    """Nonsense is no answer, and nobody there is none."""
    assert ask([gateway("rude")], rude) == {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert ask([gateway("gone")], free.getsockname()[1]) == {}
