"""The issuer's public keys: fetched off the path, kept through outages."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from server.errors import KeysUnusable

# Fixed: what a token's header says only chooses among these.
ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
MIN_RSA_BITS = 2048
# A flood of tokens with unknown key ids causes no more fetches than this.
MIN_INTERVAL_S = 30.0
_REFRESH_S = 600.0
_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_MAX_BYTES = 256 * 1024
_MOST_KEYS = 64


class Log(Protocol):
    def info(self, event: str, **fields: object) -> object: ...
    def warning(self, event: str, **fields: object) -> object: ...


class Jwks:
    """Keys by id. `clock` is monotonic seconds; `changed` is called when others are in force."""

    def __init__(self, url: str, *, clock: Callable[[], float], log: Log) -> None:
        self._url = url
        self._clock = clock
        self._log = log
        self.changed: Callable[[], None] = lambda: None
        self._keys: dict[str, jwt.PyJWK] = {}
        self._raw: object = None
        self._fetched = float("-inf")
        self._fetching: asyncio.Task[bool] | None = None
        self.fetches = 0

    async def load(self) -> None:
        """The first fetch. Raises KeysUnusable."""
        self._fetched = self._clock()
        self._take(await self._fetch())

    async def key(self, key_id: str) -> jwt.PyJWK | None:
        """The key; an unknown one is looked for at the issuer, at most once in MIN_INTERVAL_S."""
        found = self._keys.get(key_id)
        if found is not None:
            return found
        await self.refresh()
        return self._keys.get(key_id)

    async def refresh(self) -> None:
        """Fetch, unless that was tried just now. All who wait share one fetch; a failed one keeps the set."""
        if self._fetching is None:
            if self._clock() < self._fetched + MIN_INTERVAL_S:
                return
            self._fetched = self._clock()
            self._fetching = asyncio.create_task(self._try())
            self._fetching.add_done_callback(self._done)
        # Shielded: one client that leaves must not take the others' fetch with it.
        await asyncio.shield(self._fetching)

    async def run(self) -> None:
        """For ever: fetch again every ten minutes, so that a withdrawn key is not trusted for longer."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            await self.refresh()

    async def aclose(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _done(self, _: asyncio.Task[bool]) -> None:
        self._fetching = None

    async def _try(self) -> bool:
        try:
            self._take(await self._fetch())
        except KeysUnusable as exc:
            self._log.warning("jwks.unusable", problem=str(exc), kept=len(self._keys))
            return False
        return True

    def _take(self, document: object) -> None:
        if document == self._raw:
            return
        self._keys = read_jwks(document)
        self._raw = document
        self.changed()
        self._log.info("jwks.loaded", keys=len(self._keys))

    async def _fetch(self) -> object:
        self.fetches += 1
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise KeysUnusable(f"{self._url} answered {response.status}")
                raw = await response.content.read(_MAX_BYTES + 1)
                while len(raw) <= _MAX_BYTES and (more := await response.content.read(_MAX_BYTES)):
                    raw += more
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise KeysUnusable(f"{self._url} cannot be read: {type(exc).__name__}") from exc
        if len(raw) > _MAX_BYTES:
            raise KeysUnusable(f"{self._url} sent more than {_MAX_BYTES} bytes")
        try:
            document: object = json.loads(raw)
        except (ValueError, RecursionError) as exc:
            raise KeysUnusable(f"{self._url} did not send JSON") from exc
        return document


def read_jwks(document: object) -> dict[str, jwt.PyJWK]:
    """The keys that may sign. Raises KeysUnusable when there is none: that is no set to change to."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise KeysUnusable("the key set has no list of keys")
    found = [_usable(item) for item in listed[:_MOST_KEYS]]
    keys = {key.key_id: key for key in found if key is not None and key.key_id is not None}
    if not keys:
        raise KeysUnusable("the key set has no key that may sign: RSA of 2048 bits, P-256, P-384 or Ed25519")
    return keys


def _usable(item: Any) -> jwt.PyJWK | None:
    # A symmetric key ("oct") in a public document is no secret: whoever reads it could sign.
    if not isinstance(item, dict) or item.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if item.get("use", "sig") != "sig" or not isinstance(item.get("kid"), str):
        return None
    try:
        key = jwt.PyJWK(item)
    except jwt.PyJWTError:
        return None
    return key if key.algorithm_name in ALGORITHMS and _strong(key.key) else None


def _strong(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= MIN_RSA_BITS
    # A private key in the document is everybody's.
    return isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)
