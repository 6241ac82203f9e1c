"""text-generation-inference 3 (in maintenance). Read in huggingface/text-generation-inference, router/src:

- Loading: the port is closed. Sick: /health says 503.
- Its OpenAI routes (server.rs): a model's name other than `tgi` is taken for an adapter's; `stop` must be a
  list; completions give `finish_reason: ""` until the last chunk, then `length`, `eos_token` or
  `stop_sequence`, with usage in the same chunk; the end token's own text is part of a completion.
  `[DONE]` ends a stream.
- Errors are {"error": text, "error_type"}, in a stream as well, and 424 is a failure of the model, not the
  request's (`impl From<InferError>`).
- No token ids, and no prompts of ids: a continuation is by text; `continue_final_message` is there (#2733).
- Stop strings are sent, and stay in the answer.
- Seed: a generator for each request (server/text_generation_server/utils/tokens.py, `Sampling`).
- SIGTERM: the router finishes what runs; the launcher allows it 90 s (launcher/src/main.rs).
- No gauge says what share of the KV cache is used.
"""

from server.engines.adapter import Adapter, Capabilities
from server.engines.load import Gauges
from server.wire.jsonbody import Json
from server.wire.openai import Kind

_FINISH_REASONS = {"": None, "eos_token": "stop", "stop_sequence": "stop"}
_ERROR_CODES = {"validation": 422, "overloaded": 429}


def request(_: Kind, body: Json) -> Json:
    said = body | {"model": "tgi"}
    if isinstance(body.get("stop"), str):
        said["stop"] = [body["stop"]]
    most = said.pop("max_completion_tokens", None)
    return said if most is None else said | {"max_tokens": most}


def chunk(said: Json) -> Json:
    if isinstance(said.get("error"), str):
        kind = str(said.get("error_type"))
        code = _ERROR_CODES.get(kind, 500)
        return {"error": {"message": said["error"], "type": kind, "param": None, "code": code}}
    choices = said.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        reason = choice.get("finish_reason")
        if reason == "eos_token" and "text" in choice:
            # Of streams alone, where the last chunk is the end token.
            choice["text"] = ""
        if isinstance(reason, str):
            choice["finish_reason"] = _FINISH_REASONS.get(reason, reason)
    return said


TGI = Adapter(
    kind="tgi",
    capabilities=Capabilities(continues_chat=True, stop_text="sent", keeps_stop=True, reseeds=True),
    gauges=Gauges(queued=("tgi_queue_size",), running=("tgi_batch_current_size",)),
    request=request,
    chunk=chunk,
)
