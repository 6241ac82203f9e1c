"""Engines that answer in recorded shapes: one deterministic answer, cut into tokens of uneven length.

Asked to continue, by token ids or by text, such an engine goes on where the prompt ends, as a real one under
greedy decoding would. What it does with text that may begin a stop string is its shape's `stop_text`.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.http.exchange import Exchange

PIECES = ("The", " spot", " no", "de", " l", "ef", "t;", " ST", "OP", "S n", "ow", " €", "äö", ".")
FIRST_ID = 100
PROMPT_IDS = [1, 2, 3]
PROMPT = "Say: "
REFUSED = "refuse this"
FAILS = "fail in the middle"


def load_shape(kind: str) -> dict[str, Any]:
    shape: dict[str, Any] = json.loads((Path(__file__).parent / "shapes" / f"{kind}.json").read_text())
    return shape


@dataclass(frozen=True)
class Token:
    id: int
    text: str


@dataclass(frozen=True)
class Part:
    """What one chunk carries; `finish` is of the last."""

    text: str
    ids: list[int]
    made: int
    finish: str | None = None
    matched: str | None = None


@dataclass
class ReplayEngine:
    shape: dict[str, Any]
    loading: bool = False
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    address: str = ""

    async def handle(self, exchange: Exchange) -> None:
        path = exchange.request.path
        if self.loading:
            loading = self.shape["loading"]
            await _answer(exchange, loading["status"], loading["body"])
        elif path == "/v1/models":
            await _answer(exchange, 200, self.shape["models"])
        elif path == "/metrics":
            await exchange.respond(200, [(b"content-type", b"text/plain")], self.shape["metrics"].encode())
        else:
            await self._generate(exchange, path, json.loads(await exchange.request.body(1 << 20)))

    async def _generate(self, exchange: Exchange, path: str, body: dict[str, Any]) -> None:
        self.asked.append((path, body))
        if _prompt_text(body).startswith(REFUSED):
            await _answer(exchange, self.shape["refusal"]["status"], self.shape["refusal"]["body"])
            return
        kind = "chat" if "messages" in body else "completions"
        if kind == "chat" and body.get("return_token_ids") and kind not in self.shape["ids"]:
            assert self.shape["models"]["data"][0]["owned_by"] != "sglang", "a chat that streams is refused"
        if not body.get("stream"):
            await _answer(exchange, 200, self.whole(kind, body))
            return
        await exchange.start(200, [(b"content-type", b"text/event-stream")])
        fails = _prompt_text(body).startswith(FAILS)
        for at, event in enumerate(self.events(kind, body)):
            if fails and at == 2:
                await _send(exchange, self.shape["failure"])
                break
            await _send(exchange, event)
            # Every event arrives by itself: what is one read to a gateway is for its own tests.
            await asyncio.sleep(0)
        if not fails or self.shape["done_after_failure"]:
            await exchange.write(b"data: [DONE]\n\n")
        await exchange.end()

    def whole(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """An answer that does not stream, in the words of its last chunk."""
        parts = list(self._parts(kind, _continued(body)[1], body))
        text = "".join(part.text for part in parts)
        words = self.shape.get("finish_words", {})
        reason = words.get(parts[-1].finish, {}).get(kind, parts[-1].finish)
        said = {"message": {"role": "assistant", "content": text}} if kind == "chat" else {"text": text}
        made = parts[-1].made
        usage = {"prompt_tokens": 3, "completion_tokens": made, "total_tokens": 3 + made}
        return {"id": "1", "choices": [{"index": 0, "finish_reason": reason} | said], "usage": usage}

    def events(self, kind: str, body: dict[str, Any]) -> Iterator[Any]:
        templates = self.shape[kind]
        prompt_ids, tokens = _continued(body)
        parts = list(self._parts(kind, tokens, body))
        asked_ids = body.get("return_token_ids") and kind in self.shape["ids"]
        usage = {
            "prompt_tokens": len(prompt_ids),
            "completion_tokens": parts[-1].made,
            "total_tokens": len(prompt_ids) + parts[-1].made,
        }
        words = self.shape.get("finish_words", {})
        if templates["opening"] is not None:
            yield _filled(templates["opening"], {"$prompt_ids": prompt_ids if asked_ids else None})
        for at, part in enumerate(parts):
            values = {
                "$text": part.text,
                "$ids": part.ids if asked_ids else None,
                "$first_prompt_ids": prompt_ids if asked_ids and at == 0 else None,
                "$finish": words.get(part.finish, {}).get(kind, part.finish),
                "$matched": part.matched,
                "$made": part.made,
                "$usage": usage,
            }
            event = _filled(templates["token" if part.finish is None else "finish"], values)
            if part.finish is None and not body.get("timings_per_token"):
                event.pop("timings", None)
            yield event
        if templates["usage"] is not None:
            yield _filled(templates["usage"], {"$usage": usage, "$made": parts[-1].made})

    def _parts(self, kind: str, tokens: list[Token], body: dict[str, Any]) -> Iterator[Part]:
        stops = body.get("stop") or []
        stops = [stops] if isinstance(stops, str) else stops
        most = body.get("max_tokens")
        made, text, given, pending = 0, "", 0, []
        for token in tokens:
            if made == most:
                break
            made, text = made + 1, text + token.text
            pending.append(token.id)
            matched = next((stop for stop in stops if stop in text), None)
            if matched is not None:
                end = text.index(matched) + (len(matched) if self.shape.get("keeps_stop") else 0)
                yield from self._last(kind, text[given : max(end, given)], pending, made, "stop", matched)
                return
            if self.shape["stop_text"] == "held" and token.id == FIRST_ID + 1:
                # As if this were the first half of a character: it comes with the other.
                continue
            until = len(text) - self._held(text, stops)
            if made == min(most or len(tokens), len(tokens)):
                break
            yield Part(text[given : max(until, given)], pending, made)
            given, pending = max(until, given), []
        reason = "length" if made == most and made < len(tokens) else "stop"
        yield from self._last(kind, text[given:], pending, made, reason, None)

    def _last(
        self, kind: str, text: str, ids: list[int], made: int, reason: str, matched: str | None
    ) -> Iterator[Part]:
        if kind in self.shape["merged_finish"]:
            yield Part(text, ids, made, reason, matched)
            return
        if text or ids:
            yield Part(text, ids, made)
        yield Part("", [], made, reason, matched)

    def _held(self, text: str, stops: list[str]) -> int:
        if self.shape["stop_text"] == "lagging":
            return max((len(stop) - 1 for stop in stops), default=0)
        if self.shape["stop_text"] == "held":
            ends = (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
            return max(ends, default=0)
        return 0


def _continued(body: dict[str, Any]) -> tuple[list[int], list[Token]]:
    """The prompt's ids, and the tokens that are still to come after it."""
    answer = [Token(FIRST_ID + at, piece) for at, piece in enumerate(PIECES)]
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        done = len(prompt) - len(PROMPT_IDS)
        assert prompt == PROMPT_IDS + [token.id for token in answer[:done]], "ids of another answer"
        return prompt, answer[done:]
    sent = _sent_text(body)
    tokens, at = [], 0
    for token in answer:
        end = at + len(token.text)
        if end > len(sent):
            tokens.append(Token(token.id, token.text[max(0, len(sent) - at) :]))
        at = end
    assert "".join(PIECES).startswith(sent), "text of another answer"
    return PROMPT_IDS + [token.id for token in answer[: len(answer) - len(tokens)]], tokens


def _sent_text(body: dict[str, Any]) -> str:
    if "messages" not in body:
        prompt = str(body["prompt"])
        begun = next((start for start in (PROMPT, FAILS) if prompt.startswith(start)), prompt)
        return prompt.removeprefix(begun)
    last = body["messages"][-1]
    if last["role"] != "assistant":
        return ""
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    return str(last["content"])


def _prompt_text(body: dict[str, Any]) -> str:
    prompt = body["messages"][0]["content"] if "messages" in body else body["prompt"]
    return prompt if isinstance(prompt, str) else ""


def _filled(template: Any, values: dict[str, Any]) -> Any:
    """The template with its placeholders replaced; a field whose value is unset is left out."""
    if isinstance(template, dict):
        kept = {
            name: value
            for name, value in template.items()
            if not (value in ("$ids", "$prompt_ids", "$first_prompt_ids") and values.get(value) is None)
        }
        return {name: _filled(value, values) for name, value in kept.items()}
    if isinstance(template, list):
        return [_filled(item, values) for item in template]
    if isinstance(template, str) and template.startswith("$"):
        return values[template]
    return template


async def _send(exchange: Exchange, event: Any) -> None:
    await exchange.write(b"data: " + json.dumps(event).encode() + b"\n\n")


async def _answer(exchange: Exchange, status: int, body: Any) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    await exchange.respond(status, [(b"content-type", b"application/json")], raw)
