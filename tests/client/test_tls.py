"""HTTPS to an address that was looked up, for the name that was asked for."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from goldenfleet_client import ConnectionFailed, GaveUp, Retried

HOST = "llm.fleet.test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed one for HOST, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "fleet.pem"
    form = serialization.Encoding.PEM
    private = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(form) + private)
    return path


class Https:
    """TLS before a Service; knows which names were asked for in handshakes."""

    def __init__(self, service: Any, certificate: Path) -> None:
        self.names: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda _sock, name, _context: self.names.append(name)
        serve = service._serve

        def serve_tls(connection: Any) -> None:
            try:
                connection.sock = context.wrap_socket(connection.sock, server_side=True)
            except OSError:
                connection.sock.close()
                return
            serve(connection)

        service._serve = serve_tls


@pytest.fixture
def https(service: Any, certificate: Path) -> Https:
    return Https(service, certificate)


def test_name_and_certificate_are_those_of_the_host(
    callers: Any, service: Any, acts: Any, https: Https, certificate: Path
) -> None:
    """Whatever address an attempt goes to: SNI, Host and the certificate are the name's."""
    service.then(acts.reset, acts.whole)
    trust = ssl.create_default_context(cafile=certificate)
    url = f"https://{HOST}:{service.port}"
    caller = callers(url, verify=trust, resolver=lambda _host, _port: ["127.0.0.1"])
    assert caller.call("generate", "x").attempts == 2
    assert https.names == [HOST, HOST]
    assert {seen.headers["host"] for seen in service.seen} == {f"{HOST}:{service.port}"}


def test_a_certificate_that_is_not_trusted_is_final(
    callers: Any, service: Any, https: Https, certificate: Path
) -> None:
    """Another attempt would meet the same certificate: one handshake, and a plain word about it."""
    caller = callers(f"https://{HOST}:{service.port}", resolver=lambda _host, _port: ["127.0.0.1"])
    error = caller.outcome("generate", "x").error
    assert isinstance(error, ConnectionFailed)
    assert "certificate is not trusted" in str(error)
    assert [type(event) for event in caller.events] == [GaveUp]
    assert https.names == [HOST]


def test_a_certificate_of_another_host(callers: Any, service: Any, https: Https, certificate: Path) -> None:
    """A trusted certificate of another name is refused, too."""
    trust = ssl.create_default_context(cafile=certificate)
    caller = callers(f"https://127.0.0.1:{service.port}", verify=trust)
    assert isinstance(caller.outcome("generate", "x").error, ConnectionFailed)
    assert not any(isinstance(event, Retried) for event in caller.events)
