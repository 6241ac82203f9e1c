"""`goldenfleet keys`: make API keys. A key is shown once and stored nowhere; servers hold its hash."""

import hashlib
import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from server.auth.keyfile import KeyRecord, Limits, PriorityName, read_keys
from server.auth.principal import Scope
from server.auth.secrets import read_file
from server.errors import KeysUnusable, SecretUnreadable

_KEY_BYTES = 32  # 256 random bits


@click.group()
def keys() -> None:
    """Make and check the API keys that gateways accept."""


@keys.command(epilog="Example: goldenfleet keys new --tenant acme --tokens-per-minute 200000 > acme.key")
@click.option("--tenant", required=True, metavar="NAME", help="Whose key it is.")
@click.option("--id", "key_id", metavar="NAME", help="Its name in logs; by default the tenant and a number.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it is for; by default everything. May be repeated.",
)
@click.option("--model", "models", multiple=True, metavar="NAME", help="A model it is for; by default all.")
@click.option("--priority", default="normal", type=click.Choice(["low", "normal", "high"]), show_default=True)
@click.option("--requests-per-minute", type=click.IntRange(min=1))
@click.option("--tokens-per-minute", type=click.IntRange(min=1))
@click.option("--concurrency", type=click.IntRange(min=1), help="Requests at a time.")
@click.option("--expires-days", type=click.IntRange(1, 3650), help="Days for which it is good.")
def new(
    tenant: str,
    key_id: str | None,
    scopes: tuple[str, ...],
    models: tuple[str, ...],
    priority: PriorityName,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrency: int | None,
    expires_days: int | None,
) -> None:
    """Make a key: the key goes to stdout, once, and the record for the keys document to stderr."""
    key = "gf_" + secrets.token_urlsafe(_KEY_BYTES)
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=expires_days or 0)
    try:
        record = KeyRecord(
            id=key_id if key_id is not None else f"{tenant}-{secrets.token_hex(4)}",
            sha256=hashlib.sha256(key.encode()).hexdigest(),
            tenant=tenant,
            scopes=[Scope(scope) for scope in scopes] or list(Scope),
            models=list(models) or None,
            priority=priority,
            limits=Limits(
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                concurrency=concurrency,
            ),
            expires=expires if expires_days else None,
        )
    except ValueError as exc:
        raise click.UsageError(
            "A tenant's and a key's name are letters, digits, dots, dashes and underscores, 64 at most."
        ) from exc
    click.echo("Add this record to `keys` of the keys document:", err=True)
    click.echo(json.dumps(record.model_dump(mode="json", exclude_defaults=True), indent=2), err=True)
    click.echo(key)


@keys.command(epilog="Example: goldenfleet keys check keys.json")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(path: Path) -> None:
    """Say whether a server would take the keys document in PATH."""
    try:
        found = read_keys(read_file(path))
    except (SecretUnreadable, KeysUnusable) as exc:
        raise click.ClickException(f"{path} cannot be used: {exc}") from exc
    click.echo(f"{path}: {len(found.keys)} keys.")
