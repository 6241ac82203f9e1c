"""Random cases that are the same in every run.

GOLDENFLEET_FUZZ multiplies their number, GOLDENFLEET_FUZZ_SEED makes them others. A failure names its case,
and GOLDENFLEET_FUZZ_CASE runs that one alone.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import Random
from typing import Any, TypeVar

MORE = float(os.environ.get("GOLDENFLEET_FUZZ", "1"))
SEED = os.environ.get("GOLDENFLEET_FUZZ_SEED", "goldenfleet")
ONLY = os.environ.get("GOLDENFLEET_FUZZ_CASE")
AT_ONCE = 32
PATIENCE_S = 60.0

Item = TypeVar("Item")


def cases(name: str, count: int) -> Iterator[tuple[str, Random]]:
    if ONLY is not None:
        yield ONLY, Random(ONLY)
        return
    for number in range(max(1, int(count * MORE))):
        case = f"{SEED}/{name}/{number}"
        yield case, Random(case)


async def each(name: str, count: int, check: Callable[[Random], Awaitable[None]]) -> None:
    """Runs `check` for each case, AT_ONCE at a time. The first that fails is named."""
    todo = cases(name, count)

    async def work() -> None:
        for case, rng in todo:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await check(rng)
            except Exception as exc:
                exc.add_note(f"in case {case}")
                raise

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def pieces(rng: Random, data: bytes, most: int = 8) -> list[bytes]:
    """`data` cut at random places."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(most)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < end]


def damage(rng: Random, data: bytes, parts: Sequence[bytes]) -> bytes:
    """`data` with one to three small accidents: bytes lost, doubled, changed, or `parts` put in."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 1, 2, 5, 20)))
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:at] + data[end:]
        elif kind == 1:
            data = data[:at] + data[at:end] * 2 + data[end:]
        elif kind == 2:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        else:
            data = data[:at] + rng.choice(parts) + data[at:]
    return data


class Raw(str):
    """JSON as it is: what `json.dumps` would not write."""

    __slots__ = ()


HUGE = Raw("1" + "0" * 400)
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    0.0,
    -0.5,
    1.5,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    "",
    "x",
    "\x00",
    "\ud800",
    "https://169.254.169.254/",
    "data:image/png;base64,AA==",
    "ä" * 300,
    "y" * 5000,
    [],
    [[]],
    [None],
    [1, 2, 3],
    ["a"],
    ["a", "b", "c", "d", "e"],
    {},
    {"a": 1},
    {"type": "text", "text": "x"},
    {"": None},
    Raw("NaN"),
    Raw("Infinity"),
    Raw("-Infinity"),
    Raw("1e999"),
    Raw("-1e999"),
    Raw("1e-999"),
    Raw("1E400"),
    HUGE,
    Raw("-" + HUGE),
    Raw("9" * 5000),
    Raw("[" * 20 + "]" * 20),
    Raw("[" * 40 + "]" * 40),
    Raw("[" * 5000 + "]" * 5000),
    Raw('{"a":' * 40 + "1" + "}" * 40),
    Raw('"\\u0000"'),
    Raw('"\\udfff\\ud800"'),
    Raw('{"a": 1, "a": []}'),
    Raw(""),
    Raw("01"),
    Raw("'x'"),
)


def write_json(value: Any) -> str:
    """As `json.dumps`, with Raw values as they are."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{write_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write_json, value)) + "]"
    return json.dumps(value)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from _places(child, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return value | {path[0]: _replaced(value[path[0]], path[1:], new)}
    return [*value[: path[0]], _replaced(value[path[0]], path[1:], new), *value[path[0] + 1 :]]


def odd_json(rng: Random, body: dict[str, Any], names: Sequence[str]) -> bytes:
    """`body` with odd values in one to three places, under its own names or `names`."""
    value: Any = body
    for _ in range(rng.randint(1, 3)):
        if isinstance(value, dict) and rng.random() < 0.5:
            value = value | {rng.choice(names): rng.choice(ODD)}
            continue
        value = _replaced(value, rng.choice(list(_places(value))), rng.choice(ODD))
    raw = write_json(value).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        raw = damage(rng, raw, [b"{", b"}", b'"', b"\\", b"\xff", b"\xef\xbb\xbf", b",", b"\x00"])
    if rng.random() < 0.02:
        raw = rng.choice(
            (b"\xef\xbb\xbf" + raw, raw + b" " * 100, b"", raw.decode("latin-1").encode("utf-16"))
        )
    return raw
