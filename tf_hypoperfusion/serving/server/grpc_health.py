"""gRPC's health service (``grpc.health.v1``), which balancers and Kubernetes ask.

``Watch`` is answered with UNIMPLEMENTED, as gRPC foresees: clients then take the server as healthy.
"""

from collections.abc import Callable, Collection
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "grpc.health.v1.Health"
CHECK = f"/{SERVICE}/Check"
SERVING, NOT_SERVING = 1, 2
FIELD = descriptor_pb2.FieldDescriptorProto


def _messages() -> tuple[Any, Any]:
    """Request and response, in a pool of their own: a package may bring the same names."""
    file = descriptor_pb2.FileDescriptorProto(
        name="health.proto", package="grpc.health.v1", syntax="proto3"
    )
    one = FIELD.LABEL_OPTIONAL
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(name="service", number=1, type=FIELD.TYPE_STRING, label=one)
    response = file.message_type.add(name="HealthCheckResponse")
    response.field.add(name="status", number=1, type=FIELD.TYPE_INT32, label=one)  # of an enum
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("HealthCheckRequest", "HealthCheckResponse")
    found = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.health.v1.{name}"))
        for name in names
    ]
    return found[0], found[1]


HealthCheckRequest, HealthCheckResponse = _messages()


def handler(ready: Callable[[], bool], services: Collection[str]) -> grpc.GenericRpcHandler:
    """The service.

    Args:
        ready: whether requests are answered.
        services: that there are, beside the server as a whole.
    """

    async def check(request: Any, context: Any) -> Any:
        if request.service and request.service not in (*services, SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return HealthCheckResponse(status=SERVING if ready() else NOT_SERVING)

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(
                check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
            )
        },
    )
