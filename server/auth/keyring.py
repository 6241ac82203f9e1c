"""The keys in force, read again while the server runs."""

import asyncio
import hmac
from collections.abc import Callable

from server.auth.jwks import Log
from server.auth.keyfile import NO_KEYS, Key, KeySet, TenantRecord, read_keys
from server.errors import KeysUnusable, SecretUnreadable


class Keyring:
    """Reads the keys with `read`, which blocks. `clock` is unix seconds; `changed` is called
    when other keys are in force.
    """

    def __init__(
        self,
        read: Callable[[], str],
        *,
        poll_s: float,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        self._read = read
        self._poll_s = poll_s
        self._clock = clock
        self._log = log
        self.changed: Callable[[], None] = lambda: None
        self._text: str | None = None
        self._problem: str | None = None
        self.current: KeySet = NO_KEYS
        self.failing = False

    async def load(self) -> None:
        """Read the keys. Raises SecretUnreadable or KeysUnusable, and then keeps those that it has."""
        text = await asyncio.to_thread(self._read)
        if text == self._text:
            return
        self.current = read_keys(text)
        self._text = text
        self.changed()
        self._log.info("keys.loaded", keys=len(self.current.keys))

    async def reload(self) -> None:
        """As `load`, but a bad document is only told of, once for each problem."""
        try:
            await self.load()
        except (SecretUnreadable, KeysUnusable) as exc:
            self.failing = True
            if str(exc) != self._problem:
                self._log.warning("keys.unusable", problem=str(exc), kept=len(self.current.keys))
            self._problem = str(exc)
            return
        self.failing, self._problem = False, None

    async def run(self) -> None:
        """For ever: reload."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.reload()

    def tenant(self, name: str) -> TenantRecord:
        return self.current.tenant(name)

    def find(self, digest: bytes) -> Key | None:
        """The key with this hash, unless it has expired.

        The hash is looked up, not the key: how long that takes says nothing that helps to guess a key.
        """
        key = self.current.keys.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest) or self._clock() >= key.expires:
            return None
        return key
