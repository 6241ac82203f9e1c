"""What a setting refers to instead of holding it: a file, an SSM parameter, a Secrets Manager secret."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from server.errors import SecretUnreadable

# `file:/path`, `ssm:/name`, `secretsmanager:name-or-arn`.
REFERENCE = r"^(file:/.+|ssm:/[A-Za-z0-9_./-]+|secretsmanager:[A-Za-z0-9/_+=.@:-]+)$"
_MAX_BYTES = 4 * 1024 * 1024


def secret_reader(reference: str, region: str | None) -> Callable[[], str]:
    """What reads `reference`, which matches REFERENCE. It blocks, and raises SecretUnreadable."""
    kind, _, name = reference.partition(":")
    if kind == "file":
        return lambda: read_file(Path(name))
    if kind == "ssm":
        return lambda: _read_parameter(name, region)
    return lambda: _read_secret(name, region)


def read_file(path: Path) -> str:
    """A file that nobody but its owner may write and no stranger may read. Raises SecretUnreadable."""
    try:
        with path.open("rb") as file:
            # Of what was opened, not of what the path names by now.
            problem = _file_problem(os.fstat(file.fileno()))
            if problem:
                raise SecretUnreadable(f"{path} {problem}")
            return file.read(_MAX_BYTES).decode()
    except OSError as exc:
        raise SecretUnreadable(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SecretUnreadable(f"{path} is not text in UTF-8") from exc


def _file_problem(found: os.stat_result) -> str | None:
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to user {found.st_uid}; it must be root's or the server's own"
    if found.st_mode & 0o037:
        mode = stat.S_IMODE(found.st_mode)
        return f"has mode {mode:04o}; others must not read or write it: chmod 0640"
    return f"is larger than {_MAX_BYTES} bytes" if found.st_size > _MAX_BYTES else None


def _read_parameter(name: str, region: str | None) -> str:
    # Imported here: boto3 costs a third of a second.
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client("ssm", region_name=region)
        found = client.get_parameter(Name=name, WithDecryption=True)
    except (BotoCoreError, ClientError) as exc:
        raise SecretUnreadable(f"SSM parameter {name} cannot be read: {exc}") from exc
    return str(found["Parameter"]["Value"])


def _read_secret(name: str, region: str | None) -> str:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client("secretsmanager", region_name=region)
        found = client.get_secret_value(SecretId=name)
    except (BotoCoreError, ClientError) as exc:
        raise SecretUnreadable(f"secret {name} cannot be read: {exc}") from exc
    text = found.get("SecretString")
    if text is None:
        raise SecretUnreadable(f"secret {name} holds bytes; store text")
    return str(text)
