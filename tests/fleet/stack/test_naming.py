from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.stack.instance_types import has_gpu, processor
from fleet.stack.naming import (
    AUTONAME_SUFFIX,
    LOAD_BALANCER_NAME_LIMIT,
    RESERVED,
    STACK_NAME_LIMIT,
    config_parameter,
    image_parameter,
    log_group,
    resource_name,
    room_for_tier_name,
    stack_name_problem,
    tier_name_problem,
)
from fleet.stack.settings import Network

STACK_NAMES = st.from_regex(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fullmatch=True).filter(
    lambda name: len(name) <= STACK_NAME_LIMIT
)
ANY_NAMES = st.text(max_size=40) | STACK_NAMES
TIERS = ("gateway", "model", "7b")
TIER_NAMES = st.from_regex(r"[a-z0-9]{1,20}(-[a-z0-9]{1,20})?", fullmatch=True)


@given(STACK_NAMES, TIER_NAMES)
def test_names_fit_load_balancers(stack: str, tier: str) -> None:
    """Every accepted stack gives names that AWS takes once the random suffix is on."""
    tier = tier[: room_for_tier_name(stack)].rstrip("-")
    name = resource_name(stack, tier) + "-" + "f" * (AUTONAME_SUFFIX - 1)
    assert stack_name_problem(stack) is None
    assert len(name) <= LOAD_BALANCER_NAME_LIMIT
    assert re.fullmatch(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?", name)
    assert not name.startswith("internal-")


@given(ANY_NAMES)
def test_a_name_is_accepted_only_where_it_fits(stack: str) -> None:
    """What is accepted is safe in a shell, in a parameter's path and in a load balancer's name."""
    if stack_name_problem(stack) is None:
        assert re.fullmatch(r"[a-z0-9-]+", stack, re.ASCII)
        assert all(len(resource_name(stack, tier)) + AUTONAME_SUFFIX <= 32 for tier in TIERS)


@given(STACK_NAMES)
def test_every_stack_leaves_room_for_the_usual_names(stack: str) -> None:
    """A stack whose name is accepted can have a tier called gateway."""
    assert room_for_tier_name(stack) >= len("gateway")


@pytest.mark.parametrize("name", [*RESERVED, *(f"{part}-x" for part in RESERVED)])
def test_a_tier_cannot_take_the_name_of_another_part(name: str) -> None:
    """Two security groups or tags of one name would be mixed up; a longer name could hide one in it."""
    assert "choose another" in (tier_name_problem(name) or "")
    assert tier_name_problem(f"x{name}") is None


@given(st.lists(STACK_NAMES, unique=True, min_size=2, max_size=5))
def test_names_of_different_stacks_and_tiers_differ(stacks: list[str]) -> None:
    """No two tiers share a name, a parameter or a log group."""
    pairs = [(stack, tier) for stack in stacks for tier in TIERS]
    for name in (resource_name, config_parameter, log_group):
        assert len({name(*pair) for pair in pairs}) == len(pairs)


def test_the_longest_stack_name_is_one_below_the_first_refused() -> None:
    """The limit is exact."""
    assert stack_name_problem("s" * STACK_NAME_LIMIT) is None
    assert "1 more than" in (stack_name_problem("s" * (STACK_NAME_LIMIT + 1)) or "")


def test_parameters_have_the_agreed_paths() -> None:
    """Bakes write, and nodes read, at exactly these."""
    assert image_parameter("dev", "llama", "stage") == "/goldenfleet/dev/image/llama/stage"
    assert config_parameter("dev", "model") == "/goldenfleet/dev/tier/model/config"


@given(st.integers(16, 19), st.integers(2, 6), st.integers(0, 255))
def test_subnets_share_no_address(prefix: int, zones: int, second: int) -> None:
    """Public and private blocks of all zones lie in the VPC, apart, and a load balancer's has its /27."""
    network = Network.model_validate({"cidr": f"10.{second}.0.0/{prefix}", "zones": zones})
    blocks = [*network.public_blocks, *network.private_blocks]
    assert len(blocks) == 2 * zones
    assert all(block.subnet_of(network.cidr) for block in blocks)
    assert not any(a.overlaps(b) for n, a in enumerate(blocks) for b in blocks[:n])
    assert all(block.prefixlen <= 27 for block in network.public_blocks)


def test_nodes_have_no_address_of_the_first_block() -> None:
    """A node's last two octets are its loopback address in a rehearsal, where 127.0.0.1 is everyone's."""
    assert str(Network().private_blocks[0]) == "10.0.16.0/20"


@pytest.mark.parametrize(
    ("instance_type", "architecture", "gpu"),
    [
        ("c7i.large", "x86_64", False),
        ("m6a.xlarge", "x86_64", False),
        ("c7g.large", "arm64", False),
        ("c7gn.large", "arm64", False),
        ("im4gn.large", "arm64", False),
        ("t4g.small", "arm64", False),
        ("a1.large", "arm64", False),
        ("r8g.48xlarge", "arm64", False),
        ("g5.xlarge", "x86_64", True),
        ("g4dn.xlarge", "x86_64", True),
        ("g6e.2xlarge", "x86_64", True),
        ("gr6.4xlarge", "x86_64", True),
        ("g5g.xlarge", "arm64", True),
        ("p5en.48xlarge", "x86_64", True),
        ("p6-b200.48xlarge", "x86_64", True),
        ("u7i-12tb.224xlarge", "x86_64", False),
        ("inf2.xlarge", "x86_64", False),
    ],
)
def test_type_names_tell_processor_and_gpu(instance_type: str, architecture: str, gpu: bool) -> None:
    """Graviton is an option behind the generation; G and P series have GPUs."""
    assert (processor(instance_type), has_gpu(instance_type)) == (architecture, gpu)
