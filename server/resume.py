"""A generation that was cut on one node, continued on another so that the client sees one stream.

A Record keeps what the client asked and has been sent. After a cut, `next_leg` says what to ask another node
for: the same request again while nothing was sent, the exact token ids where the engine gave them, else the
text so far. A Leg then turns that node's chunks into those of the stream that was begun. All of it is pure;
where a continuation cannot be faithful it raises ResumeUnsupported, and never guesses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.engines import UNKNOWN, Capabilities
from server.errors import ResumeUnsupported
from server.record import Record
from server.stops import StopAcross, stop_strings
from server.wire.jsonbody import Json
from server.wire.openai import CHUNK_OBJECTS, Delta, Generation, Kind, read_chunk, strip_ids

# What a chunk's head says of the whole stream, and so must not change in the middle of it.
_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier")

# Fields of a chat request that shape its prompt or its output's format: the prompt's token ids already hold
# the first, and a request that uses the second is refused or continued as chat. All else is sampling.
_CHAT_ONLY = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "audio",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "function_call",
        "functions",
        "include_reasoning",
        "logprobs",
        "max_completion_tokens",
        "messages",
        "metadata",
        "mm_processor_kwargs",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "reasoning_effort",
        "response_format",
        "store",
        "tool_choice",
        "tool_prompt",
        "tools",
        "top_logprobs",
        "verbosity",
        "web_search_options",
    }
)
_LOGPROBS = ("logprobs", "prompt_logprobs")

# The prompt's token ids are what this left; applied again it would cut into them.
_PROMPT_ONLY = frozenset({"truncate_prompt_tokens"})

# Seeds of vLLM are 64 bits with a sign; llama-server takes 32.
_SEEDS = 2**31
# Spreads the seeds of continuations of one stream: Knuth's multiplicative hash.
_SPREAD = 2_654_435_761

# A grammar's state after what was sent is known only to the node that was lost.
_FORMATS = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "grammar")


@dataclass(frozen=True, slots=True)
class Leg:
    """One node's part of a stream: what to ask it, and how to read what it says."""

    kind: Kind
    target: str
    body: Json
    resumed: bool = False
    exact: bool = True


def first_leg(generation: Generation) -> Leg:
    return Leg(generation.kind, generation.target, generation.body)


def next_leg(record: Record, context_tokens: int | None = None, capabilities: Capabilities = UNKNOWN) -> Leg:
    """What to ask the next node. `context_tokens` is the model's context length, where it is known;
    `capabilities` are those of the engine that was lost, and of the next.

    Raises ResumeUnsupported.
    """
    generation = record.generation
    record.settle(capabilities)
    if not record.started:
        record.prompt_ids, record.usage = None, None
        return first_leg(generation)
    reason = unsupported(generation) or (record.opaque and f"`{record.opaque}` had been sent in part")
    if reason:
        raise ResumeUnsupported(
            f"The node was lost, and the stream cannot be resumed: {reason}. Send it again."
        )
    leg = _continuation(record, context_tokens, capabilities)
    record.marks, record.leg_count = [(len(record.ids), len(record.text))], record.count
    if capabilities.stop_text == "sent":
        stops = stop_strings(generation.body)
        record.stop_across = StopAcross(record.text, stops, keeps_stop=capabilities.keeps_stop)
    return leg


def _continuation(record: Record, context_tokens: int | None, capabilities: Capabilities) -> Leg:
    generation = record.generation
    left = _tokens_left(record)
    if left is not None and left <= 0:
        raise ResumeUnsupported("The node was lost while it may have held back the last of its text.")
    if left is None and generation.kind == "chat" and record.prompt_ids is not None and context_tokens:
        left = context_tokens - len(record.prompt_ids) - len(record.ids)
    tools = generation.kind == "chat" and bool(generation.body.get("tools"))
    unbounded = generation.kind == "chat" and left is None
    if record.prompt_ids is None or record.ids_lost or tools or unbounded:
        leg = _text_leg(record, left, capabilities)
    else:
        leg = _exact_leg(record, left)
    seed = leg.body.get("seed")
    if capabilities.reseeds and isinstance(seed, int):
        # The same seed would draw for what comes as it drew for the first tokens.
        leg.body["seed"] = (seed + record.count * _SPREAD) % _SEEDS
    return leg


def finished_by_length(record: Record) -> bool:
    """All tokens that were asked for were sent, and the node was lost before it could say so."""
    left = _tokens_left(record)
    if record.held_back:
        return False
    return record.started and not record.complete and left is not None and left <= 0


def unsupported(generation: Generation) -> str | None:
    """Why a generation that was asked for in this way cannot be continued, or None."""
    body = generation.body
    if generation.choices > 1 or (body.get("best_of") or 1) > 1:
        return "it has more than one choice"
    # By identity: 0 is a number of logprobs, too, in a completion.
    if any(body.get(name) is not None and body[name] is not False for name in _LOGPROBS):
        return "it asks for logprobs"
    if body.get("echo") or body.get("suffix"):
        return "it asks for echo or a suffix"
    if any(body.get(name) for name in ("presence_penalty", "frequency_penalty", "min_tokens")):
        # Both count tokens since the prompt, and a continuation's prompt holds what was sent.
        return "it uses a penalty or a minimum that counts generated tokens"
    if _has_format(body):
        return "its output is held to a format"
    return None


def read(leg: Leg, chunk: Json, record: Record) -> Delta:
    """What a chunk adds to the record. Raises WireError."""
    delta = read_chunk(leg.kind, chunk)
    if delta.prompt_token_ids is not None:
        if record.prompt_tokens is None:
            record.prompt_tokens = len(delta.prompt_token_ids)
        if not (leg.resumed and leg.exact):
            record.prompt_ids, record.ids, record.ids_lost = delta.prompt_token_ids, [], False
            # What was sent before is part of this prompt: its ids are counted anew.
            record.marks = [(0, len(record.text))]
    if not record.head:
        record.head = {name: chunk[name] for name in _HEAD if name in chunk}
    if delta.usage is not None:
        record.usage = _total_usage(leg, delta.usage, record)
    _end_at_stop(record, delta)
    record.add(delta)
    return delta


def _end_at_stop(record: Record, delta: Delta) -> None:
    """The next engine cannot know a stop string of which the lost one had sent the beginning."""
    found = record.stop_across.take(delta.text) if record.stop_across is not None else None
    if found is not None:
        delta.text, delta.stop_reason = found.text, found.stop
        delta.finish_reason, delta.finished = "stop", 1
        record.stop_across, record.cut_short = None, True


def shape(leg: Leg, chunk: Json, delta: Delta, record: Record) -> Json | None:
    """The chunk as the client's stream has it, or None when there is nothing for the client in it."""
    generation = record.generation
    if leg.resumed:
        return _continued(delta, record)
    if delta.role_only and record.role_sent:
        return None
    record.role_sent = record.role_sent or delta.role_only
    if not chunk["choices"]:
        return chunk | record.head if generation.wants_usage else None
    if not generation.wants_ids:
        strip_ids(chunk)
    elif generation.choices == 1 and record.silent_ids and not delta.text:
        if delta.prompt_token_ids is None:
            return None
        # The prompt's ids come but once; those of the text that is held back come with it.
        chunk["choices"][0]["token_ids"] = []
    elif delta.token_ids and generation.choices == 1:
        chunk["choices"][0]["token_ids"] = delta.token_ids
    if not generation.wants_usage:
        chunk.pop("usage", None)
    chunk.update(record.head)
    return chunk


def closing_chunks(record: Record) -> list[Json]:
    """What a stream still lacks of its end when the node was lost after the last token."""
    chunks = []
    if not record.complete:
        record.finished, record.finish_reason = record.generation.choices, "length"
        chunks.append(_chunk(record, Delta(finish_reason="length", finished=1)))
    if record.usage is None and record.prompt_tokens is not None and not record.ids_lost:
        record.usage = _usage(record.prompt_tokens, record.count)
        if record.generation.wants_usage:
            chunks.append(_chunk(record, None) | {"choices": [], "usage": record.usage})
    return chunks


def _has_format(body: Mapping[str, Any]) -> bool:
    response_format = body.get("response_format")
    formatted = isinstance(response_format, dict) and response_format.get("type") != "text"
    return formatted or any(body.get(name) for name in _FORMATS)


def _tokens_left(record: Record) -> int | None:
    asked = record.generation.max_tokens
    return None if asked is None else asked - record.count


def _exact_leg(record: Record, left: int | None) -> Leg:
    left_out = _CHAT_ONLY | _PROMPT_ONLY
    body = {name: value for name, value in record.generation.body.items() if name not in left_out}
    body["prompt"] = [*(record.prompt_ids or ()), *record.ids]
    body.pop("max_tokens", None)
    if left is not None:
        body["max_tokens"] = left
    return Leg("completions", "/v1/completions", body, resumed=True)


def _text_leg(record: Record, left: int | None, capabilities: Capabilities) -> Leg:
    generation = record.generation
    if generation.kind == "chat" and not capabilities.continues_chat:
        raise ResumeUnsupported("The node was lost, and its engine cannot continue an answer. Send it again.")
    body = dict(generation.body)
    if left is not None:
        body["max_tokens"] = left
        body.pop("max_completion_tokens", None)
    if generation.kind == "chat":
        body["messages"] = _continued_messages(body, record.text)
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    elif isinstance(body.get("prompt"), str):
        body["prompt"] += record.text
    else:
        raise ResumeUnsupported("The node was lost, and the engine did not say which tokens it had sent.")
    return Leg(generation.kind, generation.target, body, resumed=True, exact=False)


def _continued_messages(body: Json, text: str) -> list[Json]:
    messages: list[Json] = body["messages"]
    if body.get("continue_final_message") and isinstance(messages[-1].get("content"), str):
        return [*messages[:-1], messages[-1] | {"content": messages[-1]["content"] + text}]
    return [*messages, {"role": "assistant", "content": text}]


def _continued(delta: Delta, record: Record) -> Json | None:
    if delta.usage is not None and not (delta.text or delta.finished):
        if not record.generation.wants_usage:
            return None
        return _chunk(record, None) | {"choices": [], "usage": record.usage}
    if not (delta.text or delta.finished):
        return None
    return _chunk(record, delta)


def _chunk(record: Record, delta: Delta | None) -> Json:
    generation = record.generation
    chunk: Json = {"object": CHUNK_OBJECTS[generation.kind], **record.head, "choices": []}
    if delta is None:
        return chunk
    choice: Json = {"index": 0, "logprobs": None, "finish_reason": delta.finish_reason}
    if generation.kind == "chat":
        choice["delta"] = {"content": delta.text} if delta.text else {}
    else:
        choice["text"] = delta.text
    if delta.stop_reason is not None:
        choice["stop_reason"] = delta.stop_reason
    if generation.wants_ids:
        choice["token_ids"] = delta.token_ids
    chunk["choices"] = [choice]
    return chunk


def _total_usage(leg: Leg, usage: Json, record: Record) -> Json:
    """A continuation's prompt holds what was sent before it: its total is right, the split is not."""
    if not leg.resumed:
        return usage
    total = int(usage.get("total_tokens") or 0)
    prompt = record.prompt_tokens
    if prompt is None:
        prompt = max(0, total - record.count)
    return _usage(prompt, total - prompt)


def _usage(prompt: int, completion: int) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
