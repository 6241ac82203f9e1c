"""docs/policy.md, made of the rules: `python -m fleet.policy.page > docs/policy.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from fleet.policy import balancers, groups, instances, networks, operations, roles, scaling, stores
from fleet.policy.model import Rule

_PARTS: Sequence[tuple[str, Sequence[Rule]]] = (
    ("Instances", instances.RULES),
    ("Network", networks.RULES),
    ("Load balancers", balancers.RULES),
    ("Auto Scaling groups", groups.RULES),
    ("Scaling", scaling.RULES),
    ("Roles", roles.RULES),
    ("Queues, topics, buckets, keys", stores.RULES),
    ("Logs, alarms, tags", operations.RULES),
)

_INTRODUCTION = """# Policy

What every stack must satisfy, as rules in `fleet/policy`. A mandatory violation stops `up` before anything is
made; an advisory one is told. The rules run in three places:

```sh skip="CI runs it"
scripts/rehearse                            # judged in the preview, and again once AWS has answered
pytest tests/fleet/policy                   # what violates each rule; tests/fleet/stack has the real stacks
```

```sh skip="needs Pulumi's command line"
pulumi preview --policy-pack fleet/policy   # the same as a CrossGuard pack, over Pulumi's own protocol
```

The pack runs in the checkout's `.venv` and needs no account of Pulumi's. Whether a stack is production is
read from its own `goldenfleet:production`. A preview does not know everything: a rule that meets a value
which only AWS can give leaves it open there and judges it in `up`; a rehearsal says how many do, and its
second `up` leaves none open. What a rule must know of other resources it reads from where arguments come
from and not from ids, so that it can judge before there are any.

Where a stack needs an exception, change the rule and say why: there is no list of exemptions.
"""

_UNSCOPED = """## Actions on every resource

`resources-named` lets these stand with resource `*`: AWS knows no narrower one for them, a condition bounds
them, or they act on the caller itself.

"""


def page() -> str:
    return "\n".join([_INTRODUCTION, *_tables(), _UNSCOPED + _unscoped(), ""])


def _tables() -> Iterator[str]:
    for title, rules in _PARTS:
        yield f"## {title}\n\n| rule | holds | level | otherwise |\n|---|---|---|---|"
        yield from (_row(rule) for rule in rules)
        yield ""


def _row(rule: Rule) -> str:
    where = ", in production" if rule.production else ""
    return f"| `{rule.name}` | {rule.description} | {rule.level}{where} | {rule.remedy} |"


def _unscoped() -> str:
    return ", ".join(f"`{action}`" for action in sorted(roles.UNSCOPED)) + "."


if __name__ == "__main__":
    sys.stdout.write(page())
