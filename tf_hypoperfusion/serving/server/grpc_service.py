"""TensorFlow Serving's gRPC services: Predict, model metadata and status."""

import concurrent.futures
import hmac
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.repository import AVAILABLE, END, LOADING, Repository, Version
from tf_hypoperfusion.serving.server.runner import Runner


def status_message(states: dict[int, tuple[str, str]], number: int | None = None) -> Any:
    """``GetModelStatusResponse`` of a model's versions, or of one."""
    codes = get_model_status_pb2.ModelVersionStatus.State
    words = {LOADING: codes.LOADING, AVAILABLE: codes.AVAILABLE, END: codes.END}
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, (state, reason) in states.items():
        if number in (None, version):
            line = response.model_version_status.add(version=version, state=words[state])
            line.status.error_code = 2 if reason else 0  # UNKNOWN, OK
            line.status.error_message = reason
    return response


def metadata_message(version: Version) -> Any:
    """``GetModelMetadataResponse`` with the signatures as the SavedModel holds them."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = version.name
    response.model_spec.version.value = version.number
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in version.definitions.items():
        signatures.signature_def[name].CopyFrom(signature)
    response.metadata["signature_def"].Pack(signatures)
    return response


def find_states(
    repository: Repository, name: str, number: int | None
) -> dict[int, tuple[str, str]]:
    """States of a model's versions.

    Raises:
        ServingError: no such model, or no such version of it.
    """
    states = repository.states(name)
    if number is not None and number not in states:
        raise ServingError("NOT_FOUND", f"Could not find version {number} of model {name}")
    return states


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


def is_token(header: str | bytes, token: str) -> bool:
    """Whether an ``Authorization`` header carries the token; takes as long whatever it holds."""
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    scheme, _, value = text.partition(" ")
    same = hmac.compare_digest(value.strip().encode(), token.encode())
    return scheme.lower() == "bearer" and same


def _find(repository: Repository, spec: Any) -> Version:
    number = spec.version.value if spec.HasField("version") else None
    return repository.get(spec.name, number, spec.version_label or None)


def _abort(context: Any, error: ServingError) -> None:
    context.abort(getattr(grpc.StatusCode, error.code), error.message)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, repository: Repository, runner: Runner):
        self.repository, self.runner = repository, runner

    def Predict(self, request, context):
        try:
            version = _find(self.repository, request.model_spec)
            signature = request.model_spec.signature_name or "serving_default"
            try:
                # Before any is decoded: a few bytes can stand for a tensor of gigabytes.
                version.check(
                    signature,
                    {
                        name: (
                            tf.as_dtype(value.dtype).name,
                            [size.size for size in value.tensor_shape.dim],
                        )
                        for name, value in request.inputs.items()
                    },
                )
                inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            except ServingError:
                raise
            except Exception as error:  # a tensor that contradicts itself fails in many ways
                raise ServingError("INVALID_ARGUMENT", f"no tensor: {error}") from error
            outputs = self.runner.run(version, signature, inputs)
            response = predict_pb2.PredictResponse()
            response.model_spec.name = version.name
            response.model_spec.version.value = version.number
            response.model_spec.signature_name = signature
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response
        except ServingError as error:
            return _abort(context, error)

    def GetModelMetadata(self, request, context):
        try:
            return metadata_message(_find(self.repository, request.model_spec))
        except ServingError as error:
            return _abort(context, error)


class _Model(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, repository: Repository):
        self.repository = repository

    def GetModelStatus(self, request, context):
        try:
            spec = request.model_spec
            number = spec.version.value if spec.HasField("version") else None
            return status_message(find_states(self.repository, spec.name, number), number)
        except ServingError as error:
            return _abort(context, error)


def start(
    repository: Repository, runner: Runner, address: str, max_request_bytes: int,
    token: str | None = None,
) -> tuple[grpc.Server, int]:  # fmt: skip
    """Start the gRPC server; returns it and its port.

    Args:
        address: HOST:PORT; port 0 takes a free one. token: asked for in each call's metadata.

    Raises:
        InputError: the port is in use, or no such address.
    """
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(16),
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
