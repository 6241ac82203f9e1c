"""What the steps of an EC2 bake need of AWS: registry passwords and signed URLs, never on a command line."""

from __future__ import annotations

import base64
from urllib.parse import urlsplit

from images.aws import Aws, translated
from images.errors import BuilderError
from images.materials import sign
from images.recipe import Recipe
from images.run import Run
from images.steps import Materials

_SIGNED_FOR_S = 6 * 3600
"""Weights may be fetched long after the bake has begun."""


def materials(aws: Aws, run: Run) -> Materials:
    own = Materials(run_id=run.id, registry_passwords=_passwords(aws, run.recipe))
    return sign(own, run.recipe, lambda url: _url(aws, url))


def _passwords(aws: Aws, recipe: Recipe) -> dict[str, bytes]:
    hosts = {container.registry for container in recipe.containers}
    return {host: _password(aws, host) for host in sorted(filter(None, hosts)) if ".dkr.ecr." in host}


def _password(aws: Aws, host: str) -> bytes:
    """`host` is ACCOUNT.dkr.ecr.REGION.amazonaws.com."""
    region = host.split(".")[3]
    with translated(f"asking for a password of {host}"):
        found = aws.at(region).ecr.get_authorization_token()["authorizationData"]
    if not found:
        raise BuilderError(f"ECR gives no password for {host}", "check the credentials in use")
    user, _, password = base64.b64decode(found[0]["authorizationToken"]).partition(b":")
    if user != b"AWS":
        raise BuilderError(f"ECR gives a password of another user for {host}")
    return password


def _url(aws: Aws, url: str) -> str:
    where = urlsplit(url)
    with translated(f"signing {url}"):
        return aws.s3.generate_presigned_url(
            "get_object",
            Params={"Bucket": where.netloc, "Key": where.path.lstrip("/")},
            ExpiresIn=_SIGNED_FOR_S,
        )
