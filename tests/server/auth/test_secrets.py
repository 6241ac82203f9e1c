"""What a reference names: files with a mode that fits, parameters and secrets of an emulated AWS."""

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from server.auth.secrets import read_file, secret_reader
from server.errors import SecretUnreadable


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_file_that_only_its_owner_writes_is_read(tmp_path: Path, mode: int) -> None:
    """Its group may read it."""
    path = tmp_path / "keys.json"
    path.write_text("{}")
    path.chmod(mode)
    assert read_file(path) == "{}"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o666, 0o602, 0o620])
def test_a_file_that_others_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever can write the keys can let anybody in."""
    path = tmp_path / "keys.json"
    path.write_text("{}")
    path.chmod(mode)
    with pytest.raises(SecretUnreadable, match=f"has mode {mode:04o}; .*chmod 0640"):
        read_file(path)


def test_what_is_no_file_of_text_is_refused(tmp_path: Path) -> None:
    """A folder, a device, nothing at all, bytes."""
    path = tmp_path / "bytes"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    for bad, said in ((tmp_path, "directory"), (Path(os.devnull), "regular"), (tmp_path / "no", "No such")):
        with pytest.raises(SecretUnreadable, match=said):
            read_file(bad)
    with pytest.raises(SecretUnreadable, match="UTF-8"):
        read_file(path)


@pytest.mark.usefixtures("aws")
def test_a_secure_parameter_is_read() -> None:
    """SSM decrypts it for us."""
    ssm = boto3.client("ssm", region_name="us-east-1")
    ssm.put_parameter(Name="/goldenfleet/t/keys", Value="hidden", Type="SecureString")
    ssm.close()
    assert secret_reader("ssm:/goldenfleet/t/keys", "us-east-1")() == "hidden"


@pytest.mark.usefixtures("aws")
def test_a_secret_is_read_by_name_and_by_arn() -> None:
    """Secrets Manager holds larger documents than SSM does."""
    client = boto3.client("secretsmanager", region_name="us-east-1")
    arn = client.create_secret(Name="t/keys", SecretString="hidden")["ARN"]
    client.create_secret(Name="t/bytes", SecretBinary=b"x")
    client.close()
    assert secret_reader("secretsmanager:t/keys", "us-east-1")() == "hidden"
    assert secret_reader(f"secretsmanager:{arn}", "us-east-1")() == "hidden"
    with pytest.raises(SecretUnreadable, match="store text"):
        secret_reader("secretsmanager:t/bytes", "us-east-1")()


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("reference", ["ssm:/goldenfleet/none", "secretsmanager:none"])
def test_what_is_not_there_is_named(reference: str) -> None:
    """The message says what was looked for."""
    with pytest.raises(SecretUnreadable, match=reference.partition(":")[2]):
        secret_reader(reference, "us-east-1")()
