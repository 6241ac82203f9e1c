"""What moto does slowly where a fleet is large: the same answers, sooner.

With 200 instances DescribeInstances asked for each one's tags by looking through every tag of the region,
twice; each request of all listed the folders of moto's source; and each launch looked through the 650 images
that moto brings along, of which a fleet of ours boots none. Where an answer's members are found in an object
depends on their shape and its class alone, and was worked out for each of 200 instances anew. Each message
that was received was held against its queue's attributes, and so all others in the queue were counted, three
times.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import moto.backends
from moto import settings
from moto.core.serialize import AttributePicker, AttributePickerContext, XFormedAttributePicker
from moto.core.utils import unix_time
from moto.ec2.models import EC2Backend
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix
from moto.sqs.models import Message, SQSBackend

from fleet.rehearsal.cloud.patches import Patches

Tags = list[dict[str, str]]


def install(patches: Patches) -> None:
    modules = tuple(moto.backends.list_of_moto_modules())

    def list_of_moto_modules() -> Iterable[str]:
        return modules

    patches.set(moto.backends, "list_of_moto_modules", list_of_moto_modules)
    patches.set(TaggedEC2Resource, "get_tags", _own_tags)
    patches.wrap(XFormedAttributePicker, "get_possible_keys", _remembering)
    patches.set(SQSBackend, "is_message_valid_based_on_retention_period", _is_kept)
    patches.set(settings, "ec2_load_default_amis", lambda: False)


def _is_kept(backend: SQSBackend, queue_name: str, message: Message) -> bool:
    kept_s = int(backend.get_queue(queue_name).message_retention_period)  # type: ignore[attr-defined]
    return (message.sent_timestamp or 0) / 1000 + kept_s > unix_time()


def _remembering(original: Any) -> Any:
    known: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def get_possible_keys(picker: AttributePicker, context: AttributePickerContext) -> Iterable[str]:
        asked = (tuple(picker.alias_providers), context.key, context.shape, type(context.obj))
        if asked not in known:
            known[asked] = tuple(original(picker, context))
        return known[asked]

    return get_possible_keys


def _own_tags(resource: TaggedEC2Resource) -> Tags:
    identity: str = resource.id  # type: ignore[attr-defined]
    backend: EC2Backend = resource.ec2_backend  # type: ignore[attr-defined]
    if not identity:
        return []
    kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(identity), "")
    # A copy, as moto takes one: another request may be tagging.
    own = dict(backend.tags.get(identity, {}))
    return [
        {"resource_id": identity, "key": key, "value": value, "resource_type": kind}
        for key, value in own.items()
    ]
