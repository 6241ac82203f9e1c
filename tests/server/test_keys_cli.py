"""`goldenfleet keys`: a key is shown once, and what is stored lets nobody in."""

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.auth.keyfile import read_keys
from server.keys_cli import keys


def new(*arguments: str) -> tuple[str, str]:
    """The key and its record, as text."""
    result = CliRunner().invoke(keys, ["new", "--tenant", "acme", *arguments])
    assert result.exit_code == 0
    return result.stdout, result.stderr.partition("\n")[2]


def test_a_new_key_goes_to_stdout_and_its_record_to_stderr() -> None:
    """What is stored is the hash; what is printed is the key and nothing else."""
    key, record = new()
    assert key.startswith("gf_")
    assert len(key.strip()) >= 43
    assert key.strip() not in record
    [found] = read_keys(json.dumps({"keys": [json.loads(record)]})).keys.values()
    assert found.digest == hashlib.sha256(key.strip().encode()).digest()
    assert found.principal.tenant == "acme"


def test_keys_differ() -> None:
    """256 random bits."""
    assert len({new()[0] for _ in range(50)}) == 50


def test_a_record_holds_what_was_asked_for() -> None:
    """Limits, scopes, models, priority and end."""
    _, record = new(
        *("--id", "ci", "--scope", "models", "--model", "m", "--model", "n", "--priority", "low"),
        *(
            "--requests-per-minute",
            "5",
            "--tokens-per-minute",
            "6",
            "--concurrency",
            "7",
            "--expires-days",
            "2",
        ),
    )
    told = json.loads(record)
    assert told.pop("expires").endswith("Z")
    assert len(told.pop("sha256")) == 64
    assert told == {
        "id": "ci",
        "tenant": "acme",
        "scopes": ["models"],
        "models": ["m", "n"],
        "priority": "low",
        "limits": {"requests_per_minute": 5, "tokens_per_minute": 6, "concurrency": 7},
    }


@pytest.mark.parametrize(
    "arguments", [[], ["--tenant", "a/b"], ["--tenant", "a", "--id", ""], ["--tenant", "a", "--scope", "x"]]
)
def test_bad_usage_is_exit_code_2(arguments: list[str]) -> None:
    """And makes no key."""
    result = CliRunner().invoke(keys, ["new", *arguments])
    assert result.exit_code == 2
    assert result.stdout == ""


def test_no_option_takes_a_key() -> None:
    """A secret in an argument would be in the process list and in the shell's history."""
    names = {name for command in keys.commands.values() for item in command.params for name in item.opts}
    assert not {name for name in names if "key" in name or "secret" in name or "password" in name}


def test_a_document_is_checked_as_a_server_would(tmp_path: Path) -> None:
    """Exit code 1 and the reason, before anybody is locked out."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [json.loads(new()[1])]}))
    path.chmod(0o600)
    good = CliRunner().invoke(keys, ["check", str(path)])
    assert (good.exit_code, good.stdout) == (0, f"{path}: 1 keys.\n")
    path.chmod(0o644)
    bad = CliRunner().invoke(keys, ["check", str(path)])
    assert bad.exit_code == 1
    assert "chmod 0640" in bad.stderr
