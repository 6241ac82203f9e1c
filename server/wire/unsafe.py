"""What no request may ask of an engine: to fetch an address, or to be steered past the gateway."""

from collections.abc import Iterator

from server.errors import BadRequest
from server.wire.jsonbody import Json

# Where an engine would send to or read from, and what it would load or run. vLLM: *_transfer_params name
# hosts, prompt_embeds is a pickle. SGLang: bootstrap_* name hosts, lora_path a path, and
# custom_logit_processor is code.
_STEERING = frozenset(
    {
        "bootstrap_host",
        "bootstrap_port",
        "bootstrap_room",
        "custom_logit_processor",
        "data_parallel_rank",
        "ec_transfer_params",
        "input_embeds",
        "kv_transfer_params",
        "lora_path",
        "prompt_embeds",
    }
)
# What people write, where an address is only text.
_PROSE = frozenset({"text", "refusal", "thinking", "reasoning", "filename", "title"})
_INLINE = "data:"


def refuse_unsafe(body: Json) -> None:
    """Raises BadRequest. Media comes inline, as a data: URL: no address is looked at, so none can be
    spelled in a way that is overlooked.
    """
    if not _STEERING.isdisjoint(body):
        name = next(name for name in body if name in _STEERING)
        raise BadRequest(f"`{name}` is not for clients of a gateway.", param=name)
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            continue
        if any(_is_address(name, value) for name, value in _strings(content)):
            raise BadRequest("Media must be sent inline as a data: URL.", param="messages")


def _is_address(name: str, value: object) -> bool:
    if name in _PROSE:
        return False
    if name.endswith(("url", "uri")):
        return not (isinstance(value, str) and value.startswith(_INLINE))
    # Engines also take addresses in `image`, `video` and `audio`, beside plain base64.
    return isinstance(value, str) and "://" in value and not value.startswith(_INLINE)


def _strings(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf with the name that it is under. The body's depth is bounded already."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _strings(child, key.lower())
    elif isinstance(value, list):
        for child in value:
            yield from _strings(child, name)
    elif value is not None:
        yield name, value
