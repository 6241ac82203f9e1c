"""llama-server. Read in ggml-org/llama.cpp, tools/server (server-task.cpp at 00efb3e, server-common.cpp at
006639c), and seen in the build that xllamacpp 2026.10 carries:

- Loading: every route says 503 {"error": {"message": "Loading model", "type": "unavailable_error"}}.
- OpenAI's routes give no token ids (`return_tokens` is of the native /completion alone). A chunk is one token
  but where a character takes several; `timings_per_token` has each chunk say how many were made.
- A last message of the assistant is continued, with `continue_final_message` or without; what streams is the
  continuation alone. Prompts may be token ids.
- Text that may begin a stop string is held back; meanwhile chunks without text are sent.
- Completions have usage in their last chunk, chats in one of its own. A chat opens with `content: null`.
- Errors are OpenAI's, with the status as `code`; a prompt too long is `exceed_context_size_error`.
- The context length is `meta.n_ctx` of a model; any model's name is taken.
- Seed: a sampler for each request.
- SIGTERM: what runs is cut.
- Metrics need --metrics; the KV cache's share is not among them any more.
"""

from server.engines.adapter import Adapter, Capabilities
from server.engines.load import Gauges
from server.wire.jsonbody import Json
from server.wire.openai import Kind


def request(_: Kind, body: Json) -> Json:
    return body | {"timings_per_token": True} if body.get("stream") else body


def models(listed: Json) -> Json:
    data = listed.get("data")
    return listed | {"data": [_with_context(model) for model in data]} if isinstance(data, list) else listed


def _with_context(model: object) -> object:
    meta = model.get("meta") if isinstance(model, dict) else None
    length = meta.get("n_ctx") if isinstance(meta, dict) else None
    return model | {"max_model_len": length} if isinstance(model, dict) and isinstance(length, int) else model


LLAMA_SERVER = Adapter(
    kind="llama-server",
    capabilities=Capabilities(continues_chat=True, stop_text="held", reseeds=True),
    gauges=Gauges(
        queued=("llamacpp:requests_deferred",),
        running=("llamacpp:requests_processing",),
        kv_used_ratio=("llamacpp:kv_cache_usage_ratio",),
    ),
    request=request,
    models=models,
)
