"""Properties over generated settings: what is accepted lives and leaves nothing, what is refused says why.

Settings are made from the model's own JSON schema, so that a new setting is generated without a word here.
Beside those, lives are lived that chance would seldom find: in a network that exists, without a way out, by
weights and by requirements, with a warm pool, in production. GOLDENFLEET_PROPERTY_EXAMPLES says how many are
generated; each takes some 10 s of a core.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from fleet.errors import SettingsError
from fleet.rehearsal.cloud import Cloud
from fleet.rehearsal.engine import DeploymentError, PulumiEngine, Result, WarmHost
from fleet.rehearsal.resources import Aws
from fleet.stack.settings import Settings

PROJECT = Path(__file__).parents[3]
STACK = "rehearsal"
LIVES = int(os.environ.get("GOLDENFLEET_PROPERTY_EXAMPLES", "1"))
REFUSALS = 250 + 50 * LIVES
SCHEMA = Settings.model_json_schema(by_alias=True)
RECIPES, CHANNELS = ("rehearsal", "other"), ("dev", "stage", "prod")

Config = dict[str, Any]
PathIn = tuple[str | int, ...]

SIZES = st.integers(0, 3)
CPU_TYPES = ("c7i.large", "c6i.large", "m7i.large", "m6i.large", "c7i.xlarge")
GPU_TYPES = ("g6.xlarge", "g5.xlarge", "g6e.xlarge")
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0"
REDIS = "sg-0000000f"
EXISTING_VPC = "vpc-0000000a"
PUBLIC, PRIVATE = ["subnet-0000000a", "subnet-0000000b"], ["subnet-0000000c", "subnet-0000000d"]
EXISTING = {"vpcId": EXISTING_VPC, "publicSubnetIds": PUBLIC, "privateSubnetIds": PRIVATE}
# What must exist in the account, or would cost a test too much; everything else is made from the schema.
KNOWN: Mapping[str, st.SearchStrategy[Any]] = {
    "capacity": st.fixed_dictionaries({"min": SIZES, "desired": SIZES, "max": st.integers(1, 4)}),
    "certificateArn": st.just(CERTIFICATE),
    "channel": st.sampled_from(CHANNELS),
    "cron": st.sampled_from(["0 8 * * 1-5", "*/20 6-9 * * *", "0 0 29 2 *", "0 25 * * *"]),
    "timeZone": st.sampled_from(["Etc/UTC", "Europe/Zurich", "Mars/Olympus"]),
    "cidr": st.sampled_from(["10.0.0.0/16", "10.9.0.0/17", "172.16.0.0/19", "10.0.0.0/24", "10.0.0.1"]),
    "existing": st.none() | st.just(EXISTING),
    "limitsSecurityGroup": st.none() | st.just(REDIS),
    "instanceTypes": st.lists(st.sampled_from(CPU_TYPES), max_size=4)
    | st.lists(st.sampled_from(GPU_TYPES), min_size=3, max_size=3, unique=True),
    "recipe": st.sampled_from(RECIPES),
    "tiers": st.just([]),
    "topicArn": st.just("arn:aws:sns:us-east-1:123456789012:pager"),
    "waf": st.sampled_from(["none", "managed", "some"]),
    "weights": st.none() | st.dictionaries(st.sampled_from(CPU_TYPES), st.integers(1, 3)),
}


def tier(name: str, role: str, **more: Any) -> Config:
    purchase = {"instanceTypes": list(CPU_TYPES), "onDemandBase": 1}
    capacity = {"min": 1, "desired": 1, "max": 2}
    image = {"recipe": "rehearsal", "channel": "dev"}
    return {"name": name, "role": role, **image, "capacity": capacity, "purchase": purchase, **more}


def plain() -> Config:
    tiers = [tier("gateway", "gateway"), tier("model", "model", engine="embedded")]
    return {"access": {"open": True}, "tiers": tiers}


def purchase(**what: Any) -> Config:
    return {"purchase": {"onDemandBase": 1, **what}, "capacity": {"min": 1, "desired": 2, "max": 6}}


WEIGHED = purchase(instanceTypes=["c7i.large", "c7i.xlarge"], weights={"c7i.large": 1, "c7i.xlarge": 2})
FITTING = purchase(
    requirements={"vcpus": {"min": 2, "max": 8}, "memoryGib": {"min": 4}, "excludedTypes": ["t*"]},
    onDemandPercent=25,
)
WAITING = {
    **purchase(instanceTypes=["c7i.large"], onDemandPercent=100),
    "warmPool": {"min": 1, "maxPrepared": 3, "reuse": True},
}


def of(*models: Config, **more: Any) -> Config:
    """A stack with these model tiers."""
    named = [tier(name, "model", engine="llama-server") for name in ("one", "two", "three")]
    tiers = [{**each, **own} for each, own in zip(named, models, strict=False)]
    return {"access": {"open": True}, "tiers": [tier("gateway", "gateway"), *tiers], **more}


# A group of one kind becomes one of another, and so does the network.
IN_THEIR_NETWORK = of(WEIGHED, FITTING, network={"existing": EXISTING}, security={"key": "own"})
WITHOUT_A_WAY_OUT = of(
    FITTING,
    WEIGHED,
    network={"nat": "none", "endpoints": True, "zones": 2},
    access={"limitsUrl": "ssm:/ours/redis", "limitsSecurityGroup": REDIS},
)
MANY_MODELS = of(WAITING, WEIGHED, FITTING, security={"flowLogs": True, "accessLogs": True})
PRODUCTION: Config = {
    "production": True,
    "access": {"keys": "ssm:/ours/keys"},
    "edge": {"certificateArn": CERTIFICATE, "domain": "a.example", "waf": "managed"},
    "network": {"nat": "per-zone"},
    "alarms": {"email": "ops@a.example"},
    "security": {"key": "own", "permissionsBoundary": "arn:aws:iam::123456789012:policy/bounded"},
    "telemetry": {"tracesUrl": "https://traces.example.com", "tracesHeaders": "ssm:/ours/traces"},
    "tiers": [
        tier("gateway", "gateway", capacity={"min": 2, "desired": 2, "max": 3}),
        tier("one", "model", engine="llama-server", capacity={"min": 2, "desired": 2, "max": 3}),
    ],
}
TELLING = (IN_THEIR_NETWORK, MANY_MODELS)


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return {**SCHEMA["$defs"][name], **schema} if name else schema


def values(schema: Mapping[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Whatever `schema` allows, a little more where its numbers end, and what KNOWN has for the name."""
    if name in KNOWN:
        return KNOWN[name]
    schema = resolved(schema)
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    if "anyOf" in schema:
        return st.one_of([values(each, name) for each in schema["anyOf"]])
    return MAKERS[schema["type"]](schema)


def texts(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    if schema.get("format") == "ipv4network":
        return st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "192.0.2.7/32", "192.0.2.7/8", "everywhere"])
    pattern = schema.get("pattern", r"^[a-z]{1,8}$")
    return st.from_regex(pattern, fullmatch=True, alphabet=st.characters(max_codepoint=126, min_codepoint=33))


def numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[int]:
    least, most = schema.get("minimum", 0), min(schema.get("maximum", 10_000), 10_000)
    return st.integers(least, most) | st.sampled_from([least, most, least - 1, most + 1])


def lists(schema: Mapping[str, Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values(schema.get("items", {"type": "string"})), max_size=3)


def objects(schema: Mapping[str, Any]) -> st.SearchStrategy[Config]:
    properties = schema.get("properties", {})
    made = {name: values(each, name) for name, each in properties.items()}
    required = {name: made[name] for name in schema.get("required", ())}
    optional = {name: made[name] for name in made if name not in required}
    return st.fixed_dictionaries(required, optional=optional)


MAKERS: Mapping[str, Callable[[Mapping[str, Any]], st.SearchStrategy[Any]]] = {
    "array": lists,
    "boolean": lambda _schema: st.booleans(),
    "integer": numbers,
    "null": lambda _schema: st.none(),
    "number": lambda _schema: st.floats(-1, 1000, allow_nan=False) | st.integers(-1, 1000),
    "object": objects,
    "string": texts,
}


def places(schema: Mapping[str, Any], above: PathIn = ()) -> Iterator[tuple[PathIn, Mapping[str, Any]]]:
    """Every setting, at any depth, with its schema."""
    for name, each in resolved(schema).get("properties", {}).items():
        if name != "stack":
            yield (*above, name), each
            yield from places(each, (*above, name))


TIERS = [SCHEMA["$defs"]["GatewayTier"], SCHEMA["$defs"]["ModelTier"]]
PLACES = [
    *places(SCHEMA),
    *(found for number, each in enumerate(TIERS) for found in places(each, ("tiers", number))),
]


@st.composite
def configurations(draw: st.DrawFn, changes: int = 4) -> Config:
    """A plain stack of one or two model tiers, with some settings changed."""
    config = plain()
    for path, schema in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=changes)):
        put(config, path, draw(values(schema, str(path[-1]))))
    if draw(st.booleans()) and config["tiers"]:
        config["tiers"].append(tier("second", "model", engine="llama-server"))
    return config


def put(config: Any, path: Sequence[str | int], value: Any) -> None:
    for step in path[:-1]:
        if isinstance(step, int) and step >= len(config):
            return
        config = config[step] if isinstance(step, int) else config.setdefault(step, {})
        if not isinstance(config, dict | list):
            return
    config[path[-1]] = deepcopy(value)


def as_given(config: Config) -> dict[str, str]:
    """As Pulumi hands it to the program, and as overrides go into a run."""
    return {f"goldenfleet:{key}": json.dumps(value) for key, value in config.items()}


def refusal(config: Config) -> SettingsError | None:
    try:
        Settings.from_config(STACK, {**as_given(config), "aws:region": "us-east-1"})
    except SettingsError as error:
        return error
    return None


def accepted(config: Config) -> bool:
    return refusal(config) is None


@settings(max_examples=REFUSALS, derandomize=True, database=None, deadline=None)
@given(config=configurations(changes=3))
def test_what_is_refused_says_why_in_lines_that_name_the_setting(config) -> None:
    """Each mistake is one line, which begins with a setting's path or names one."""
    error = refusal(config)
    if error is None:
        return
    head, *lines = error.message.split("\n")
    assert head == f"stack '{STACK}' has settings that cannot be used:"
    assert lines
    assert all(line.startswith("  ") and "goldenfleet:" in line and len(line) > 30 for line in lines)
    assert "validation error" not in error.message
    assert error.hint


class Nobody:
    """Instances without nodes."""

    def launched(self, instance: object) -> None:
        pass

    def killed(self, instance_id: str) -> None:
        pass


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Cloud(time_scale=0.02, seed=1, listener=Nobody()) as cloud:
        for recipe in RECIPES:
            for channel in CHANNELS:
                cloud.register_image(recipe, STACK, channel)
        yield cloud


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmHost]:
    with WarmHost() as host:
        yield host


@pytest.fixture(scope="module")
def theirs(cloud: Cloud) -> Mapping[str, str]:
    """What others have in the account -> its ids: a network, a certificate, the group of a Redis."""
    aws = Aws(cloud.endpoint_url, "us-east-1")
    vpc = aws.call("ec2.CreateVpc", CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
    gateway = aws.call("ec2.CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
    aws.call("ec2.AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    table = aws.call("ec2.CreateRouteTable", VpcId=vpc)["RouteTable"]["RouteTableId"]
    out = {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": gateway}
    aws.call("ec2.CreateRoute", RouteTableId=table, **out)
    found = {EXISTING_VPC: vpc}
    for number, subnet in enumerate((*PUBLIC, *PRIVATE)):
        at = {"CidrBlock": f"10.77.{number}.0/24", "AvailabilityZone": f"us-east-1{'ab'[number % 2]}"}
        found[subnet] = aws.call("ec2.CreateSubnet", VpcId=vpc, **at)["Subnet"]["SubnetId"]
    for subnet in PUBLIC:
        aws.call("ec2.AssociateRouteTable", RouteTableId=table, SubnetId=found[subnet])
    group = {"GroupName": "redis", "Description": "of the limits", "VpcId": vpc}
    found[REDIS] = aws.call("ec2.CreateSecurityGroup", **group)["GroupId"]
    found[CERTIFICATE] = aws.call("acm.RequestCertificate", DomainName="a.example")["CertificateArn"]
    return found


# What a preview cannot know, AWS's new names, may turn out as it was: then less is done than was foreseen.
LESS = {"update": ("same",), "replace": ("same", "update")}


def surprises(foreseen: Result, done: Result) -> dict[str, tuple[str | None, str | None]]:
    """What an up did and a preview had not said, by its URN."""
    said, did = ({step.urn: step.op for step in result.steps} for result in (foreseen, done))
    pairs = {urn: (said.get(urn), did.get(urn)) for urn in {*said, *did}}
    return {
        urn: (before, after)
        for urn, (before, after) in pairs.items()
        if before != after and after not in LESS.get(str(before), ())
    }


class Life:
    """One stack's, on the emulated cloud."""

    def __init__(self, cloud: Cloud, warm: WarmHost, theirs: Mapping[str, str], folder: Path) -> None:
        self.url, self.warm, self.theirs = cloud.endpoint_url, warm, theirs
        self.state = folder / "state.json"

    def engine(self, config: Config) -> PulumiEngine:
        given = as_given(config)
        for placeholder, real in self.theirs.items():
            given = {key: value.replace(placeholder, real) for key, value in given.items()}
        at = {"endpoint_url": self.url, "state_file": self.state}
        return PulumiEngine(PROJECT, STACK, **at, config=given, warm=self.warm)

    def come(self, config: Config) -> bool:
        """Previewed and up as foreseen; False where the program refuses what only the account can tell."""
        engine = self.engine(config)
        foreseen = self.foreseen(engine)
        if isinstance(foreseen, Result):
            done = engine.up()
            assert surprises(foreseen, done) == {}, config
            return True
        assert "goldenfleet:" in str(foreseen), config
        return False

    def foreseen(self, engine: PulumiEngine) -> Result | DeploymentError:
        try:
            return engine.preview()
        except DeploymentError as error:
            return error

    def end(self, config: Config) -> None:
        """A production stack is protected, and is destroyed once it is no production any more."""
        if config.get("production"):
            with pytest.raises(DeploymentError, match=r"[Pp]rotect"):
                self.engine(config).destroy()
            self.engine(config | {"production": False}).up()
        self.engine(config).destroy()


ONE_LIFE = settings(
    max_examples=LIVES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@ONE_LIFE
@given(first=configurations().filter(accepted), second=configurations().filter(accepted))
@example(first=IN_THEIR_NETWORK, second=WITHOUT_A_WAY_OUT)
@example(first=MANY_MODELS, second=PRODUCTION)
def test_what_is_accepted_lives_and_leaves_nothing(
    cloud, warm, theirs, account, tmp_path_factory, first, second
) -> None:
    """It previews, comes up as foreseen, becomes another, and is destroyed without leftovers."""
    aws = Aws(cloud.endpoint_url, "us-east-1")
    before = account(aws)
    life = Life(cloud, warm, theirs, tmp_path_factory.mktemp("life"))
    came = [config for config in (first, second) if life.come(config)]
    if first in TELLING:
        assert came == [first, second]
    if came:
        life.end(came[-1])
    assert account(aws) == before, (first, second)
