"""Lambda functions are kept and never run: what they would do a process of the rehearsal does.

Plain moto hands each message of a queue to the function that is mapped to it, in a container, and so would
take it from that process. It also forgets where a function's log goes.
"""

from __future__ import annotations

from typing import Any

from moto.awslambda.models import LambdaBackend, LambdaFunction
from moto.sqs.models import sqs_backends

from fleet.rehearsal.cloud.patches import Patches


def install(patches: Patches) -> None:
    patches.wrap(LambdaBackend, "create_event_source_mapping", _unread)
    patches.wrap(LambdaBackend, "create_function", _created)
    patches.wrap(LambdaFunction, "get_configuration", _told)
    patches.wrap(LambdaFunction, "update_configuration", _updated)


def _unread(original: Any) -> Any:
    def create_event_source_mapping(self: LambdaBackend, spec: dict[str, Any]) -> Any:
        made = original(self, spec)
        for queue in sqs_backends[self.account_id][self.region_name].queues.values():
            queue.lambda_event_source_mappings.clear()
        return made

    return create_event_source_mapping


def _created(original: Any) -> Any:
    def create_function(self: LambdaBackend, spec: dict[str, Any]) -> LambdaFunction:
        made: LambdaFunction = original(self, spec)
        made.logging_config = spec.get("LoggingConfig")  # type: ignore[attr-defined]
        return made

    return create_function


def _updated(original: Any) -> Any:
    def update_configuration(self: LambdaFunction, updates: dict[str, Any]) -> dict[str, Any]:
        if "LoggingConfig" in updates:
            self.logging_config = updates["LoggingConfig"]  # type: ignore[attr-defined]
        original(self, updates)
        return self.get_configuration()

    return update_configuration


def _told(original: Any) -> Any:
    def get_configuration(self: LambdaFunction, on_create: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = original(self, on_create)
        logging = getattr(self, "logging_config", None)
        return {**found, "LoggingConfig": logging} if logging else found

    return get_configuration
