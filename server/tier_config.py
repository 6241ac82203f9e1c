"""The tier's configuration, as the Pulumi program wrote it."""

import json
import time

import aiohttp

from server.errors import SettingsError
from server.imds import ImdsClient, ImdsUnavailable


def config_parameter(stack: str, tier: str) -> str:
    """Name of the SSM parameter that holds a tier's configuration."""
    return f"/goldenfleet/{stack}/tier/{tier}/config"


async def find_region(imds_endpoint: str) -> str:
    """The region that this instance is in, from its metadata. Raises SettingsError."""
    try:
        async with aiohttp.ClientSession() as session:
            client = ImdsClient(session, imds_endpoint, clock=time.monotonic)
            region = await client.get("placement/region")
    except ImdsUnavailable as exc:
        raise SettingsError(f"setting region: {exc}; set AWS_REGION") from exc
    if not region:
        raise SettingsError("setting region: IMDS names none; set AWS_REGION")
    return region.strip()


def read_tier_config(stack: str, tier: str, region: str) -> dict[str, object]:
    """Read the parameter with the credentials that the environment gives; raises SettingsError. Blocks."""
    # Imported here: only a booting instance talks to AWS, and boto3 costs a third of a second.
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    name = config_parameter(stack, tier)
    # A new instance's network and role credentials may be seconds away.
    patience = Config(
        connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 6}
    )
    try:
        found = boto3.client("ssm", region_name=region, config=patience).get_parameter(
            Name=name, WithDecryption=True
        )
    except (BotoCoreError, ClientError) as exc:
        raise SettingsError(f"cannot read SSM parameter {name}: {exc}; is the stack's name right?") from exc
    return parse_tier_config(name, found["Parameter"]["Value"])


def parse_tier_config(name: str, text: str) -> dict[str, object]:
    """Raises SettingsError for anything but a JSON object."""
    try:
        config = json.loads(text)
    except ValueError as exc:
        raise SettingsError(f"SSM parameter {name} is not JSON: {exc}; run pulumi up again") from exc
    if not isinstance(config, dict):
        raise SettingsError(f"SSM parameter {name} is no JSON object; run pulumi up again")
    return config
