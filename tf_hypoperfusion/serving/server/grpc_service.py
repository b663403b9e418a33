"""TensorFlow Serving's gRPC services: Predict, model metadata and status."""

import concurrent.futures
import threading
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np

from data_tools.runtime import light_imports
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.serving import protobuf
from tf_hypoperfusion.serving.protobuf import predict_pb2
from tf_hypoperfusion.serving.server import messages
from tf_hypoperfusion.serving.server.bearer import is_token
from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.repository import Repository
from tf_hypoperfusion.serving.server.runner import Runner
from tf_hypoperfusion.serving.server.version import TensorHeader, Version

with light_imports.parts_only("tensorflow"):
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

THREADS = 16


class _Token(grpc.ServerInterceptor):
    """Answers calls with the right bearer token only."""

    def __init__(self, token: str):
        self.token = token
        self.refuse = grpc.unary_unary_rpc_method_handler(
            lambda request, context: context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "expected metadata authorization: Bearer TOKEN"
            )
        )

    def intercept_service(self, continuation, handler_call_details):
        given = dict(handler_call_details.invocation_metadata or ()).get("authorization", "")
        good = is_token(given, self.token)
        return continuation(handler_call_details) if good else self.refuse


def _number(spec: Any) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _find(repository: Repository, spec: Any) -> Version:
    return repository.get(spec.name, _number(spec), spec.version_label or None)


def _abort(context: Any, error: ServingError) -> None:
    context.abort(getattr(grpc.StatusCode, error.code), error.message)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, repository: Repository, runner: Runner):
        self.repository, self.runner = repository, runner

    def Predict(self, request, context):
        gone = threading.Event()
        if not context.add_callback(gone.set):  # ended while it waited for a thread
            gone.set()
        try:
            version = _find(self.repository, request.model_spec)
            signature = request.model_spec.signature_name or "serving_default"
            inputs = _decoded(version, signature, request.inputs)
            outputs = self.runner.run(version, signature, inputs, gone=gone)
        except ServingError as error:
            return _abort(context, error)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = version.name
        response.model_spec.version.value = version.number
        response.model_spec.signature_name = signature
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(protobuf.tensor_of(value))
        return response

    def GetModelMetadata(self, request, context):
        try:
            return messages.metadata(_find(self.repository, request.model_spec))
        except ServingError as error:
            return _abort(context, error)


def _decoded(version: Version, signature: str, protos: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inputs of a request, refused before any is decoded: a few bytes can stand for gigabytes."""
    try:
        headers = {
            name: TensorHeader(protobuf.dtype_name(proto.dtype), protobuf.shape(proto.tensor_shape))
            for name, proto in protos.items()
        }
        version.check(signature, headers)
        return {name: protobuf.array_of(proto) for name, proto in protos.items()}
    except ServingError:
        raise
    except Exception as error:  # a tensor that contradicts itself fails in many ways
        raise ServingError("INVALID_ARGUMENT", f"no tensor: {error}") from error


class _Model(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, repository: Repository):
        self.repository = repository

    def GetModelStatus(self, request, context):
        spec = request.model_spec
        try:
            return messages.status(self.repository.states(spec.name, _number(spec)))
        except ServingError as error:
            return _abort(context, error)


def start(
    repository: Repository,
    runner: Runner,
    address: str,
    *,
    max_request_bytes: int,
    token: str | None = None,
) -> tuple[grpc.Server, int]:
    """Start the gRPC server; returns it and its port.

    Args:
        repository: the models.
        runner: that answers.
        address: HOST:PORT; port 0 takes a free one.
        max_request_bytes: larger requests are refused.
        token: asked for in each call's metadata.

    Raises:
        InputError: the port is in use, or no such address.
    """
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(THREADS),
        interceptors=[_Token(token)] if token else (),
        options=[
            ("grpc.so_reuseport", 0),  # a second server on the port would take half of the clients
            ("grpc.max_receive_message_length", max_request_bytes),
            ("grpc.max_send_message_length", -1),
        ],
    )
    service = _Prediction(repository, runner)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Model(repository), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise InputError(f"gRPC cannot listen on {address}; is it in use? Choose --grpc_port")
    server.start()
    return server, port
