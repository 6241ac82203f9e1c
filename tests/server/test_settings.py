"""Settings: which source wins, and that what cannot work is refused in one line that names it."""

import pytest

from server.errors import SettingsError
from server.settings import Settings, load_settings
from server.tier_config import config_parameter, parse_tier_config


def load(config=None, role="model", stack="rehearsal", tier=None, **environ):
    return load_settings(role=role, tier=tier, stack=stack, tier_config=config or {}, environ=environ)


def test_defaults_hold_without_any_source():
    """A model node needs no setting at all."""
    settings = load()
    assert (settings.address, settings.port, settings.admin_port) == ("127.0.0.1", 8080, 9090)
    assert settings.engine_base == "http://127.0.0.1:8000"
    assert settings.imds_endpoint == "http://169.254.169.254"


def test_the_environment_beats_the_tier_config_beats_the_default():
    """Each later source overrides the one before, key by key."""
    settings = load(
        {"port": 81, "heartbeat_seconds": 7}, GOLDENFLEET_PORT="82", GOLDENFLEET_ADDRESS="127.0.0.9"
    )
    assert (settings.port, settings.heartbeat_seconds, settings.address) == (82, 7.0, "127.0.0.9")


def test_the_aws_environment_gives_defaults():
    """Region and metadata endpoint come from the standard variables unless set by ours."""
    environ = {"AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.4:1338/"}
    assert load(**environ).region == "eu-west-1"
    assert load(**environ).imds_endpoint == "http://127.0.0.4:1338"
    assert load({"imds_endpoint": "off"}, **environ).imds_endpoint == "off"


@pytest.mark.parametrize(
    ("config", "environ", "message"),
    [
        ({"prot": 1}, {}, "setting prot: there is no such setting"),
        ({}, {"GOLDENFLEET_PROT": "1"}, "setting GOLDENFLEET_PROT: there is no such setting"),
        ({"port": 65536}, {}, "setting port: "),
        ({"port": "http"}, {}, "setting port: "),
        ({"imds_poll_seconds": 0}, {}, "setting imds_poll_seconds: "),
        ({"imds_poll_seconds": float("nan")}, {}, "setting imds_poll_seconds: "),
        ({"engine": "gpt"}, {}, "setting engine: "),
        ({"engine_url": "http://user@host"}, {}, "setting engine_url: "),
        ({"engine_url": "https://host"}, {}, "setting engine_url: "),
        ({"nodes": "http:model"}, {}, "setting nodes: "),
        ({"retry_budget": -0.1}, {}, "setting retry_budget: "),
        ({"role": "gateway"}, {}, "setting role: "),
        ({"tier": "other"}, {}, "setting tier: "),
        ({"auth": "maybe"}, {}, "setting auth: "),
        ({"keys": "gf_a-key-itself"}, {}, "setting keys: "),
        ({"keys": "file:"}, {}, "setting keys: "),
        ({"keys": "https://host/keys"}, {}, "setting keys: "),
        ({"auth": "off", "keys": "file:/keys"}, {}, "setting auth: it is off, and keys or tokens"),
        ({"jwt_jwks_url": "http://issuer.example/jwks"}, {}, "setting jwt_jwks_url: "),
        ({"jwt_jwks_url": "https://user:password@issuer/jwks"}, {}, "setting jwt_jwks_url: "),
        ({"jwt_jwks_url": "https://issuer/jwks"}, {}, "setting jwt_jwks_url: it, jwt_issuer"),
        ({"jwt_leeway_seconds": 61}, {}, "setting jwt_leeway_seconds: "),
        ({"limits_url": "redis://:password@host"}, {}, "setting limits_url: "),
        ({"proxies": "10.0.0.0/16,everyone"}, {}, "setting proxies: "),
        ({"first_tokens_floor": 300}, {}, "setting first_tokens_initial: "),
        ({"queue_size": -1}, {}, "setting queue_size: "),
        ({"stack": "prod"}, {}, "setting stack: "),
    ],
)
def test_a_bad_setting_is_named_in_one_line(config, environ, message):
    """The error begins with the setting's name and has no second line."""
    with pytest.raises(SettingsError) as caught:
        load(config, **environ)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("role", "stack"), [("client", "dev"), ("model", "Dev"), ("model", "a/../b"), ("model", "")]
)
def test_user_data_is_checked_too(role, stack):
    """Role and stack end up in an SSM path: only known roles and plain names pass."""
    with pytest.raises(SettingsError):
        load(role=role, stack=stack)


def test_a_gateway_needs_nodes():
    """Without nodes a gateway could never be ready, so it does not start."""
    with pytest.raises(SettingsError, match="setting nodes: a gateway needs it"):
        load(role="gateway")
    config = {"nodes": "static:127.0.0.1:8080", "auth": "off"}
    assert load(config, role="gateway").nodes == "static:127.0.0.1:8080"


def test_a_gateway_asks_who_it_is_or_is_told_not_to():
    """With neither keys nor an issuer it does not start; only `auth: off`, said so, lets everybody in."""
    config = {"nodes": "static:127.0.0.1:8080"}
    with pytest.raises(SettingsError, match="setting keys: a gateway needs it"):
        load(config, role="gateway")
    issuer = {"jwt_jwks_url": "https://i/jwks", "jwt_issuer": "i", "jwt_audience": "a"}
    for more in ({"auth": "off"}, {"keys": "ssm:/goldenfleet/prod/keys"}, issuer):
        assert load(config | more, role="gateway", stack="prod").nodes == config["nodes"]


def test_no_message_quotes_a_secret():
    """A password that was put where its reference belongs is not printed."""
    with pytest.raises(SettingsError) as caught:
        load({"limits_url": "redis://:canary@host"})
    assert "canary" not in str(caught.value)


def test_every_setting_is_described():
    """A setting without a description is one that nobody can use."""
    short = [name for name, field in Settings.model_fields.items() if len(field.description or "") < 20]
    assert short == []


def test_a_tier_goes_by_its_role_until_it_is_named():
    """User data of one model tier needs no name."""
    assert load().tier == "model"
    assert load(tier="llama-70b").tier == "llama-70b"


def test_the_tier_config_is_found_by_stack_and_tier():
    """The parameter's name is the contract with the Pulumi program."""
    assert config_parameter("rehearsal", "model") == "/goldenfleet/rehearsal/tier/model/config"


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_a_tier_config_that_is_no_object_is_refused(text):
    """Whatever else the parameter holds, the error names it."""
    with pytest.raises(SettingsError, match="/p"):
        parse_tier_config("/p", text)
