"""Keys, signers of tokens, and an issuer's key set on a real loopback socket."""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, AUDIENCE = "https://issuer.example", "goldenfleet"


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Log:
    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = info

    def names(self) -> list[str]:
        return [event for event, _ in self.lines]


@dataclass(frozen=True)
class Signer:
    """A private key, as an issuer has it."""

    private: Any
    algorithm: str
    kid: str

    def jwk(self, **changes: Any) -> dict[str, Any]:
        kind = {"R": jwt.algorithms.RSAAlgorithm, "E": jwt.algorithms.ECAlgorithm}.get(self.algorithm[0])
        if self.algorithm == "EdDSA":
            kind = jwt.algorithms.OKPAlgorithm
        assert kind is not None
        found = json.loads(kind.to_jwk(self.private.public_key()))
        return found | {"kid": self.kid, "use": "sig", "alg": self.algorithm} | changes

    def token(self, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 300, "tenant": "acme", "sub": "a"}
        kept = {name: value for name, value in (claims | changes).items() if value is not ...}
        # Not jwt.encode, which refuses to sign some of what is to be refused.
        said = {"kid": self.kid, **(headers or {})}
        return jwt.PyJWS().encode(json.dumps(kept).encode(), self.private, self.algorithm, said)


_RSA = rsa.generate_private_key(65537, 2048)
_SMALL = rsa.generate_private_key(65537, 1024)


@pytest.fixture(scope="session")
def signers() -> dict[str, Signer]:
    return {
        "rsa": Signer(_RSA, "RS256", "rsa"),
        "small": Signer(_SMALL, "RS256", "small"),
        "ec": Signer(ec.generate_private_key(ec.SECP256R1()), "ES256", "ec"),
        "ed": Signer(ed25519.Ed25519PrivateKey.generate(), "EdDSA", "ed"),
        "other": Signer(ed25519.Ed25519PrivateKey.generate(), "EdDSA", "ed"),
    }


@dataclass
class Issuer:
    """Serves `document` at `url`, with `status`."""

    document: Any
    url: str = ""
    status: int = 200
    asked: int = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status, text=json.dumps(self.document))


@pytest.fixture
async def issuer(signers: dict[str, Signer]) -> AsyncIterator[Issuer]:
    issuer = Issuer({"keys": [signers[name].jwk() for name in ("rsa", "ec", "ed")]})
    app = web.Application()
    app.router.add_get("/jwks", issuer.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    yield issuer
    await runner.cleanup()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def write_keys(tmp_path: Path) -> Callable[..., str]:
    """Writes a keys document and gives the setting that refers to it."""

    def write(*records: dict[str, Any], tenants: dict[str, Any] | None = None) -> str:
        path = tmp_path / "keys.json"
        found = [{"tenant": "acme", **record} for record in records]
        for number, record in enumerate(found):
            key = record.pop("key")
            record.setdefault("id", f"key-{number}")
            record["sha256"] = hashlib.sha256(key.encode()).hexdigest()
        path.write_text(json.dumps({"keys": found, "tenants": tenants or {}}))
        path.chmod(0o640)
        return f"file:{path}"

    return write
