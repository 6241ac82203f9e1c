"""What the server must know of an engine to drive it: an Adapter each, with the facts and their source."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from server.engines.load import Gauges
from server.wire.jsonbody import Json
from server.wire.openai import IntoDialect

EngineKind = Literal["embedded", "vllm", "sglang", "tgi", "llama-server"]
StopText = Literal["held", "lagging", "sent", "unknown"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a continuation may rely on.

    `stop_text`: what happens to text that may begin a stop string. `held`: it is kept back, with its ids.
    `lagging`: text stays the longest stop string less one character behind, and the ids do not.
    `sent`: it goes out, so a stop string may have been sent in part when a stream is cut.
    `keeps_stop`: the answer ends in the stop string.
    `reseeds`: sampling with a seed starts anew with each request, whatever the prompt holds.
    """

    continues_chat: bool
    stop_text: StopText
    keeps_stop: bool = False
    reseeds: bool = False


UNKNOWN = Capabilities(continues_chat=True, stop_text="unknown")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Where the engine's words are not OpenAI's: `request` puts a request into them, `chunk` an event or a
    whole answer back, and `models` its list of models, with the context length in tokens as `max_model_len`.
    """

    kind: EngineKind
    capabilities: Capabilities
    gauges: Gauges
    request: IntoDialect | None = None
    chunk: Callable[[Json], Json] | None = None
    models: Callable[[Json], Json] | None = None
