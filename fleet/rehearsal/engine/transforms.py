"""Resource transforms: functions of the program that the engine calls back for what it registers.

Protocol: pulumi/pulumi, proto/pulumi/callback.proto and resource.proto. A resource's own transforms come
first, then those of its parents from the inside out, then the stack's. (Stack transformations, the older
kind, run inside the SDK, and need nothing of the engine.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from threading import Lock
from typing import Any

import grpc
from pulumi.runtime.proto import alias_pb2, callback_pb2, callback_pb2_grpc, resource_pb2

from fleet.rehearsal.engine.errors import ResourceFailedError
from fleet.rehearsal.engine.urns import urn_of

# Option of a registration -> the name that a transform's answer has for it.
_LISTS = {
    "dependencies": "depends_on",
    "ignoreChanges": "ignore_changes",
    "replaceOnChanges": "replace_on_changes",
    "additionalSecretOutputs": "additional_secret_outputs",
}
_VALUES = {
    "protect": "protect",
    "retainOnDelete": "retain_on_delete",
    "deleteBeforeReplace": "delete_before_replace",
    "provider": "provider",
    "importId": "import",
}


class Transforms:
    """Those of one run. Safe to use from several threads."""

    def __init__(self, project: str, stack: str) -> None:
        self._project, self._stack = project, stack
        self._of_stack: list[Any] = []
        self._of_parents: dict[str, tuple[Any, ...]] = {}
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = Lock()

    def add(self, callback: Any) -> None:
        """From now on every registration goes through `callback`."""
        with self._lock:
            self._of_stack.append(callback)

    def apply(self, request: Any) -> Any:
        """`request` as the program's transforms want it. Raises ResourceFailedError where one fails."""
        with self._lock:
            callbacks = [*request.transforms, *self._of_parents.get(request.parent, ()), *self._of_stack]
        for callback in callbacks:
            request = self._transformed(request, callback)
        return request

    def remember(self, urn: str, request: Any) -> None:
        """Children of `urn` go through its transforms too."""
        with self._lock:
            inherited = self._of_parents.get(request.parent, ())
            self._of_parents[urn] = (*request.transforms, *inherited)

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def _transformed(self, request: Any, callback: Any) -> Any:
        asked = resource_pb2.TransformRequest(
            type=request.type,
            name=request.name,
            custom=request.custom,
            parent=request.parent,
            properties=request.object,
            options=_options(request),
        )
        answer = resource_pb2.TransformResponse.FromString(self._call(request, callback, asked))
        changed = resource_pb2.RegisterResourceRequest()
        changed.CopyFrom(request)
        changed.object.CopyFrom(answer.properties)
        if answer.HasField("options"):
            self._take_options(changed, answer.options)
        return changed

    def _call(self, request: Any, callback: Any, asked: Any) -> bytes:
        stub = callback_pb2_grpc.CallbacksStub(self._channel(callback.target))
        try:
            answer = stub.Invoke(
                callback_pb2.CallbackInvokeRequest(token=callback.token, request=asked.SerializeToString())
            )
        except grpc.RpcError as exc:
            raise ResourceFailedError(
                f"{request.type} {request.name!r}: a transform failed: {_details(exc)}",
                "Correct the program.",
            ) from exc
        return bytes(answer.response)

    def _channel(self, target: str) -> grpc.Channel:
        with self._lock:
            if target not in self._channels:
                self._channels[target] = grpc.insecure_channel(target)
            return self._channels[target]

    def _take_options(self, request: Any, options: Any) -> None:
        for field, name in _LISTS.items():
            _replace(getattr(request, field), getattr(options, name))
        for field, name in _VALUES.items():
            setattr(request, field, getattr(options, name))
        _replace(request.aliasURNs, self._alias_urns(request, options.aliases))

    def _alias_urns(self, request: Any, aliases: Iterable[Any]) -> Iterator[str]:
        for alias in aliases:
            if alias.WhichOneof("alias") == "urn":
                yield alias.urn
                continue
            spec = alias.spec
            yield urn_of(
                spec.project or self._project,
                spec.stack or self._stack,
                "" if spec.noParent else spec.parentUrn or request.parent,
                spec.type or request.type,
                spec.name or request.name,
            )


def _options(request: Any) -> Any:
    values: Mapping[str, Any] = {name: getattr(request, field) for field, name in _VALUES.items()}
    # An option that is not set must look so, for the program may look for it.
    given = {name: value for name, value in values.items() if value}
    options: Any = resource_pb2.TransformResourceOptions(
        aliases=[alias_pb2.Alias(urn=urn) for urn in request.aliasURNs]
    )
    for name, value in given.items():
        setattr(options, name, value)
    for field, name in _LISTS.items():
        getattr(options, name).extend(getattr(request, field))
    return options


def _replace(field: Any, values: Iterable[str]) -> None:
    fresh = list(values)
    del field[:]
    field.extend(fresh)


def _details(error: grpc.RpcError) -> str:
    """Without the callback's token, which tells nobody anything."""
    details = getattr(error, "details", None)
    text = str(error) if details is None else str(details())
    return text.partition(" error: ")[2] or text
