# ruff: noqa: ARG002, N802 - gRPC gives the methods their names and arguments
"""Pulumi's own services: the program registers resources with one and logs to the other.

Protocol: pulumi/pulumi, proto/pulumi/resource.proto and engine.proto, as the SDK ships them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, resource_pb2, resource_pb2_grpc

from fleet.errors import GoldenfleetError
from fleet.rehearsal.engine.deployment import Deployment, Registration
from fleet.rehearsal.engine.errors import DeploymentError, ResourceFailedError
from fleet.rehearsal.engine.transforms import Transforms
from fleet.rehearsal.engine.values import Redactor, decode, encode, known_text
from fleet.rehearsal.resources.errors import ResourceError

_THREADS = 32
# The SDK's own limit on a message.
_MESSAGE_BYTES = 400 * 1024 * 1024

# Everything else is declined, so that the SDK refuses it by itself or does without: output values, resource
# references, hooks, parameterization.
_FEATURES = (
    resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_TRANSFORMS,
)

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    def __init__(self, deployment: Deployment, transforms: Transforms) -> None:
        self._deployment, self._transforms = deployment, transforms

    def GetDeploymentInfo(self, request: Any, context: Any) -> Any:
        return resource_pb2.DeploymentInfo(supportedFeatures=_FEATURES)

    def SupportsFeature(self, request: Any, context: Any) -> Any:
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in ("secrets", "transforms"))

    def RegisterResource(self, request: Any, context: Any) -> Any:
        return self._answered(context, lambda: self._register(request))

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:
        def note() -> Any:
            self._deployment.register_outputs(request.urn, decode(request.outputs))
            return empty_pb2.Empty()

        return self._answered(context, note)

    def Invoke(self, request: Any, context: Any) -> Any:
        def invoke() -> Any:
            response = resource_pb2.ResourceInvokeResponse()
            # `return` is a keyword here, so that the field has to be reached by its name.
            getattr(response, "return").CopyFrom(
                encode(self._deployment.invoke(request.tok, decode(request.args)))
            )
            return response

        # The program may go on without an answer, so that this fails the call and not the run.
        try:
            return invoke()
        except GoldenfleetError as exc:
            _refuse(context, exc)

    def RegisterStackTransform(self, request: Any, context: Any) -> Any:
        self._transforms.add(request)
        return empty_pb2.Empty()

    def ReadResource(self, request: Any, context: Any) -> Any:
        def read() -> Any:
            answer = self._deployment.read(_reading(request), known_text(request.id))
            return resource_pb2.ReadResourceResponse(
                urn=answer.urn, id=answer.id, properties=encode(answer.outputs)
            )

        return self._answered(context, read)

    def Call(self, request: Any, context: Any) -> NoReturn:
        self._fail(context, f"{request.tok}: calling methods is not part of the rehearsal")

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:
        """No hook runs at the end, so that the program need not stay."""
        return empty_pb2.Empty()

    def _register(self, request: Any) -> Any:
        if request.remote:
            raise DeploymentError(
                f"{request.type} {request.name!r}: remote components are not part of the rehearsal"
            )
        request = self._transforms.apply(request)
        answer = self._deployment.register(_registration(request))
        self._transforms.remember(answer.urn, request)
        outputs = encode(answer.outputs) if request.custom else request.object
        return resource_pb2.RegisterResourceResponse(urn=answer.urn, id=answer.id, object=outputs)

    def _answered(self, context: Any, work: Callable[[], _Answer]) -> _Answer:
        try:
            return work()
        except GoldenfleetError as exc:
            self._deployment.fail(exc)
            _refuse(context, exc)
        except Exception as exc:
            # An error that is ours must end the run, where gRPC would only end the call.
            self._deployment.fail(
                DeploymentError(f"the engine failed: {exc!r}", "This is a fault of Goldenfleet.")
            )
            raise

    def _fail(self, context: Any, message: str) -> NoReturn:
        error = DeploymentError(message, "Let the program create what it needs, or ask by a function.")
        self._deployment.fail(error)
        _refuse(context, error)


class Engine(engine_pb2_grpc.EngineServicer):
    def __init__(self, redactor: Redactor) -> None:
        self.errors: list[str] = []
        self._redactor = redactor
        self._root = ""

    def Log(self, request: Any, context: Any) -> Any:
        text = self._redactor(request.message)
        if request.severity == engine_pb2.ERROR:
            self.errors.append(text)
        elif request.severity == engine_pb2.WARNING:
            _log.warning("the program warns: %s", text)
        return empty_pb2.Empty()

    def SetRootResource(self, request: Any, context: Any) -> Any:
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def GetRootResource(self, request: Any, context: Any) -> Any:
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def RequirePulumiVersion(self, request: Any, context: Any) -> Any:
        """No CLI takes part, so that any version will do."""
        return engine_pb2.RequirePulumiVersionResponse()


@contextmanager
def serving(monitor: Monitor, engine: Engine) -> Iterator[str]:
    """The address of both services, as host:port on loopback."""
    limits = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
    pool = ThreadPoolExecutor(_THREADS)
    server = grpc.server(pool, options=limits)
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()
        # A call that still runs may be making a resource, which must reach the state.
        pool.shutdown(wait=True)


def _inputs(request: Any) -> dict[str, Any]:
    """Outputs of components are no arguments of AWS, and may be anything."""
    if not request.custom:
        return {}
    try:
        return decode(request.object)
    except ResourceError as exc:
        raise ResourceFailedError(f"{request.type} {request.name!r}: {exc.message}", exc.hint) from exc


def _registration(request: Any) -> Registration:
    return Registration(
        type=request.type,
        name=request.name,
        parent=request.parent,
        custom=request.custom,
        inputs=_inputs(request),
        dependencies=tuple(sorted(request.dependencies)),
        aliases=tuple(request.aliasURNs),
        ignore_changes=tuple(request.ignoreChanges),
        replace_on_changes=tuple(request.replaceOnChanges),
        secret_outputs=tuple(request.additionalSecretOutputs),
        import_id=request.importId,
        protect=request.protect,
        retain=request.retainOnDelete,
        delete_before_replace=request.deleteBeforeReplace,
        provider=request.provider,
        references={key: tuple(of.urns) for key, of in request.propertyDependencies.items()},
    )


def _reading(request: Any) -> Registration:
    return Registration(
        type=request.type,
        name=request.name,
        parent=request.parent,
        custom=True,
        inputs=decode(request.properties),
        dependencies=tuple(sorted(request.dependencies)),
        secret_outputs=tuple(request.additionalSecretOutputs),
    )


def _refuse(context: Any, error: GoldenfleetError) -> NoReturn:
    context.abort(grpc.StatusCode.UNKNOWN, str(error))
    raise AssertionError("abort raises")
