"""The request parser by itself: the same requests however the bytes are cut, and no byte that breaks it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from server.http.framing import Refusal
from server.http.parser import RequestHead, RequestParser, split_target

STREAM = (
    b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;q=1\r\nde\r\n0\r\n\r\n"
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"
)
LIMIT = 4096


class Recorder:
    """The events as a list, bodies joined."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.body = b""
        self.parser = RequestParser(self, max_header_bytes=LIMIT, max_body_bytes=LIMIT)

    def head_begun(self) -> None:
        self.body = b""

    def head_arrived(self, head: RequestHead) -> None:
        self.events.append(("head", (head.method, head.path, head.query)))

    def body_arrived(self, data: bytes) -> None:
        self.body += data

    def request_ended(self) -> None:
        self.events.append(("end", self.body))

    def refused(self, refusal: Refusal) -> None:
        self.events.append(("refused", refusal.status))


def parse(pieces: list[bytes]) -> Recorder:
    recorder = Recorder()
    for piece in pieces:
        recorder.parser.feed(piece)
    return recorder


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_packets_do_not_change_the_requests(places: list[int]) -> None:
    """Any way of cutting the bytes into packets gives the same requests and the same refusal."""
    assert parse(cut(STREAM, places)).events == [
        ("head", ("POST", "/a", "b")),
        ("end", b"hello"),
        ("head", ("GET", "/", "")),
        ("end", b""),
        ("head", ("POST", "/c", "")),
        ("end", b"abcde"),
        ("refused", 400),
    ]


@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_no_bytes_break_it(pieces: list[bytes], behind_a_head: bool) -> None:
    """Whatever comes, there is at most one refusal, it is the last event, and nothing is raised."""
    head = [b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"] if behind_a_head else []
    events = parse(head + pieces).events
    refusals = [place for place, (event, _) in enumerate(events) if event == "refused"]
    assert refusals in ([], [len(events) - 1])


@given(st.integers(1, 64), st.sampled_from([b"a", b"a: b\r\n", b"\r\n", b" "]))
def test_a_head_is_bounded_whatever_fills_it(size: int, filling: bytes) -> None:
    """Fed without end, a head is refused soon after its limit; leading blank lines, too, come to an end."""
    recorder = parse([b"GET / HTTP/1.1\r\nHost: x\r\n"] if filling != b"\r\n" else [])
    fed = 0
    while not recorder.parser.stopped and fed < 4 * LIMIT:
        recorder.parser.feed(filling * size)
        fed += len(filling) * size
    assert recorder.parser.stopped
    assert fed <= LIMIT + len(filling) * size


def test_targets_are_split_without_unquoting() -> None:
    """The path is what was sent: no decoding, no normalising; only an absolute form is reduced."""
    assert split_target(b"/a%2fb/../c?d=e?f") == ("/a%2fb/../c", "d=e?f")
    assert split_target(b"http://host:1/p?q") == ("/p", "q")
    assert split_target(b"http://host") == ("/", "")
    assert split_target(b"*") == ("*", "")
    assert split_target(b"//evil/x") == ("//evil/x", "")
