"""Settings of pulumi-aws, which are below `aws:` in a stack's file: which there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fleet.stack.settings_complaints import meant

NAMESPACE = "aws"
REGION = f"{NAMESPACE}:region"

# Of pulumi_aws/config/vars.py, which imports pulumi; a test compares. assumeRole is what assumeRoles was
# called before: both are refused when the program runs, with what to do instead.
KNOWN = frozenset(
    [
        "accessKey",
        "allowedAccountIds",
        "assumeRole",
        "assumeRoleWithWebIdentity",
        "assumeRoles",
        "customCaBundle",
        "defaultTags",
        "ec2MetadataServiceEndpoint",
        "ec2MetadataServiceEndpointMode",
        "endpoints",
        "forbiddenAccountIds",
        "httpProxy",
        "httpsProxy",
        "ignoreTags",
        "insecure",
        "maxRetries",
        "noProxy",
        "profile",
        "region",
        "retryMode",
        "s3UsEast1RegionalEndpoint",
        "s3UsePathStyle",
        "secretKey",
        "sharedConfigFiles",
        "sharedCredentialsFiles",
        "skipCredentialsValidation",
        "skipMetadataApiCheck",
        "skipRegionValidation",
        "skipRequestingAccountId",
        "stsRegion",
        "tagPolicyCompliance",
        "token",
        "tokenBucketRateLimiterCapacity",
        "useDualstackEndpoint",
        "useFipsEndpoint",
        "userAgents",
    ]
)


def provider_problems(config: Mapping[str, object]) -> Iterator[str]:
    """Of names alone: for a region that is misspelled the environment's would count."""
    known = {f"{NAMESPACE}:{name}" for name in KNOWN}
    for key in config:
        if key.startswith(f"{NAMESPACE}:") and key not in known:
            yield f"{key}: there is no such setting{meant(key, sorted(known))}"
