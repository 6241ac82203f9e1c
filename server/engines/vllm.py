"""vLLM, from v0.10.2, the first with `return_token_ids` (vllm-project/vllm#22587). Read in vllm-project/vllm:

- Loading: the port is closed. /health may stay 200 after a GPU fault (#36960).
- Token ids: `token_ids` in each choice, `prompt_token_ids` in the choice of a completion's first chunk and at
  the top of a chat's (vllm/entrypoints/openai/completion/serving.py at 030ea52,
  vllm/entrypoints/openai/chat_completion/serving.py).
- Under `stop` the text stays the longest stop string less one character behind, the ids of a chunk are all
  that were made (`stop_buffer_length`, `get_next_output_text` in vllm/v1/engine/detokenizer.py;
  `token_ids=new_token_ids` in vllm/v1/engine/output_processor.py). `include_stop_str_in_output` switches the
  delay off.
- Seed: a generator for each request, seeded as it comes (`generator.manual_seed(sampling_params.seed)` in
  vllm/v1/worker/gpu_model_runner.py): a continuation draws the first tokens' chances again.
- SIGTERM: streams are cut at once; from v0.18 `--shutdown-timeout SECONDS` lets them end (#36666).
- An error in a stream is an event `{"error": {..., "code": 500}}`, and `[DONE]` follows it.
- Metrics: docs/design/metrics.md; the KV gauge was vllm:gpu_cache_usage_perc before v0.11.
"""

from server.engines.adapter import Adapter, Capabilities
from server.engines.load import Gauges

VLLM = Adapter(
    kind="vllm",
    capabilities=Capabilities(continues_chat=True, stop_text="lagging", reseeds=True),
    gauges=Gauges(
        queued=("vllm:num_requests_waiting",),
        running=("vllm:num_requests_running",),
        kv_used_ratio=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
)
