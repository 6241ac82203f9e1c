"""SGLang, from the release with `return_token_ids` (sgl-project/sglang#30917, July 2026). Read in
sgl-project/sglang at 004c82e:

- Loading: the port is closed, then /health says 503 until the warm-up is done.
- Token ids: completions stream `token_ids` and, first, `prompt_token_ids`, as vLLM does
  (python/sglang/srt/entrypoints/openai/serving_completions.py). A chat that streams refuses to give them
  (#34488 says so), so it is continued as text, by `continue_final_message` (#4226).
- Text is sent as it comes and a stop string is trimmed only where it is found (`trim_matched_stop` in
  python/sglang/srt/managers/detokenizer_manager.py): its beginning may have been sent.
- Seed: used with --enable-deterministic-inference alone, and then chance is a hash of seed and position
  (`multinomial_with_seed` in python/sglang/srt/layers/sampler.py): a continuation draws the same.
- SIGTERM: waits for what runs, without bound, unless SGL_FORCE_SHUTDOWN is set (`sigterm_watchdog` in
  python/sglang/srt/managers/tokenizer_manager.py).
- An error's fields are not under `error` but at the top: {"object": "error", "message", "type", "code"}.
- Metrics need --enable-metrics.
"""

from server.engines.adapter import Adapter, Capabilities
from server.engines.load import Gauges
from server.wire.jsonbody import Json
from server.wire.openai import Kind


def request(kind: Kind, body: Json) -> Json:
    """A chat that streams is refused for asking for token ids."""
    if kind == "chat" and body.get("stream") and body.get("return_token_ids"):
        return {name: value for name, value in body.items() if name != "return_token_ids"}
    return body


SGLANG = Adapter(
    kind="sglang",
    capabilities=Capabilities(continues_chat=True, stop_text="sent"),
    gauges=Gauges(
        queued=("sglang:num_queue_reqs",),
        running=("sglang:num_running_reqs",),
        kv_used_ratio=("sglang:token_usage",),
    ),
    request=request,
)
