import pytest

from bench.answers import Asked, StreamResult, Verdict, ask, closes, dechunked, status_of, whole_length
from bench.frames import STREAM_HEAD, Frames, Shape

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


def asked() -> Asked:
    return ask(5, 4, stream=True, headers={})


def stream(tokens: int, *, finished: bool) -> bytes:
    frames = Frames(Shape("completions", 5, with_ids=False))
    start = int(asked().expected.split()[0].split(".")[1])
    body = STREAM_HEAD + frames.some(start, tokens)
    return body + frames.ending(start + tokens, start, tokens + 1, usage=False) if finished else body


@pytest.mark.parametrize("cut", range(len(ANSWER)))
def test_an_answer_is_whole_with_its_last_byte(cut: int) -> None:
    """However the bytes arrive, nothing is taken for an answer before it is there."""
    assert whole_length(ANSWER[:cut]) is None
    assert whole_length(ANSWER) == len(ANSWER)


def test_a_chunked_answer_is_whole_with_its_last_chunk() -> None:
    """Without a length the coding says where the end is."""
    assert whole_length(stream(3, finished=False)) is None
    assert whole_length(stream(3, finished=True)) == len(stream(3, finished=True))


@pytest.mark.parametrize(
    ("body", "ended", "verdict"),
    [
        (stream(3, finished=True), "clean", "ok"),
        (stream(3, finished=False), "cut", "truncated"),
        (stream(4, finished=False), "cut", "truncated"),
        (stream(2, finished=True), "clean", "truncated"),
        (stream(3, finished=False), "late", "truncated"),
        (stream(3, finished=True).replace(b" 5.12", b" 6.12"), "clean", "wrong"),
        (stream(3, finished=True).replace(b'"text":" 5.12"', b'"text":]" 5.12'), "clean", "wrong"),
        (stream(3, finished=True).replace(b'"length"', b"null    "), "clean", "truncated"),
        (STREAM_HEAD, "cut", "failed"),
        (b"", "cut", "failed"),
        (stream(3, finished=True).replace(b"200 OK", b"502 No"), "clean", "failed"),
    ],
)
def test_a_stream_is_ok_only_whole_and_to_the_letter(body: bytes, ended: str, verdict: Verdict) -> None:
    """A clean end does not make up for missing text, nor text for a missing end."""
    result = StreamResult(asked(), 0.0, [1.0], body, ended)  # type: ignore[arg-type]
    assert result.verdict == verdict


def test_the_first_token_and_the_gaps_are_times_between_reads() -> None:
    """Nothing else is a latency."""
    result = StreamResult(asked(), 10.0, [10.5, 10.7, 11.0], b"", "cut")

    assert result.first_s == 0.5
    assert result.gaps_s == pytest.approx([0.2, 0.3])


def test_a_head_is_read_whatever_the_case_of_its_names() -> None:
    """Gateways write header names as they like."""
    assert closes(b"HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n")
    assert not closes(ANSWER)
    assert whole_length(ANSWER.lower()) == len(ANSWER)
    assert status_of(ANSWER) == 200
    assert status_of(b"nonsense") == 0


def test_chunk_extensions_are_no_content() -> None:
    """What follows a semicolon is not part of a chunk's size."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert dechunked(head + b"3;x=y\r\nabc\r\n0\r\n\r\n") == b"abc"
