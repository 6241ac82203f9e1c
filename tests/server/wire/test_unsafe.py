"""What no request may ask of an engine: addresses in any spelling, and steering."""

from typing import Any

import pytest

from server.errors import BadRequest
from server.wire.unsafe import refuse_unsafe

ADDRESSES = [
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254.nip.io/",
    "http://[fd00:ec2::254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://2852039166/",
    "http://0251.0376.0251.0376/",
    "http://0xA9.0xFE.0xA9.0xFE/",
    "http://169.254.43518/",
    "http://①⑥⑨.②⑤④.①⑥⑨.②⑤④/",
    "//169.254.169.254/",
    "169.254.169.254/latest",
    "HTTP://169.254.169.254/",
    " http://169.254.169.254/",
    "ftp://127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "s3://bucket/key",
    "https://example.org/cat.png",
    "data :image/png;base64,AAAA",
    "xdata:image/png;base64,AAAA",
    "",
]


def asked(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": "x"}, {"role": role, "content": list(parts)}]}


@pytest.mark.parametrize("address", [*ADDRESSES, 7, ["http://x"]])
@pytest.mark.parametrize("kind", ["image_url", "video_url", "audio_url", "IMAGE_URL", "file_url"])
def test_media_by_address_is_refused(address: Any, kind: str) -> None:
    """As OpenAI writes it, and as engines also take it; what is not inline is refused unread."""
    for part in ({"type": kind, kind: {"url": address}}, {"type": kind, kind: address}):
        with pytest.raises(BadRequest):
            refuse_unsafe(asked(part))


@pytest.mark.parametrize("name", ["image", "video", "audio", "input_audio", "source", "file"])
@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/", "file:///etc/passwd", "https://x.example/a.mp4"]
)
def test_addresses_in_other_fields_are_refused(name: str, address: str) -> None:
    """Engines take media under many names, at any depth, in every role's messages."""
    for value in (address, {"data": address}, [{"deep": [address]}]):
        for role in ("user", "assistant", "tool", "system"):
            with pytest.raises(BadRequest):
                refuse_unsafe(asked({"type": name, name: value}, role=role))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "see http://169.254.169.254/ and file:///etc/passwd"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA//+=", "format": "wav"}},
        {"type": "image", "image": "data:image/png;base64,AAAA"},
        {"type": "file", "file": {"filename": "http://x", "file_data": "data:application/pdf;base64,AAAA"}},
        "a word",
        None,
        7,
    ],
)
def test_text_and_inline_media_pass(part: Any) -> None:
    """An address in what a person writes is text."""
    refuse_unsafe(asked(part))


@pytest.mark.parametrize(
    "messages", [None, "x", [], [None], ["x"], [{}], [{"content": None}], [{"content": "http://x"}]]
)
def test_odd_messages_are_the_engine_s_to_refuse(messages: Any) -> None:
    """Nothing is raised that is not about safety."""
    refuse_unsafe({"messages": messages})


@pytest.mark.parametrize(
    "field", ["kv_transfer_params", "bootstrap_host", "prompt_embeds", "custom_logit_processor"]
)
@pytest.mark.parametrize("value", [None, {}, "x", 1])
def test_steering_is_refused_whatever_it_holds(field: str, value: Any) -> None:
    """The name is enough."""
    with pytest.raises(BadRequest) as caught:
        refuse_unsafe({"prompt": "x", field: value})
    assert caught.value.param == field
