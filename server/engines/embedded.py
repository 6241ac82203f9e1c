"""The embedded engine, server/engine: vLLM's names for everything that OpenAI's API lacks.

- Loading: the port opens once the weights are read.
- SIGTERM: every stream ends at once with an error event, `engine_stopped`.
- Token ids are released with their text (server/engine/detokenizer.py), greedy output does not depend on the
  batch, and chance is a function of seed and position (server/engine/sampling.py): a continuation from ids is
  the undisturbed answer, bit by bit.
"""

from server.engines.adapter import Adapter, Capabilities
from server.engines.load import Gauges

EMBEDDED = Adapter(
    kind="embedded",
    capabilities=Capabilities(continues_chat=True, stop_text="held"),
    gauges=Gauges(
        queued=("vllm:num_requests_waiting",),
        running=("vllm:num_requests_running",),
        kv_used_ratio=("vllm:kv_cache_usage_perc",),
    ),
)
