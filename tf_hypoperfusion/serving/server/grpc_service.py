"""TensorFlow Serving's gRPC services: prediction, metadata and status, and the health service.

No call holds a thread before its message is there, or any other call up while it waits.
"""

import asyncio
import concurrent.futures
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from data_tools.runtime import light_imports
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.serving import protobuf
from tf_hypoperfusion.serving.protobuf import model_management_pb2, predict_pb2
from tf_hypoperfusion.serving.server import classification, grpc_health, messages, policies
from tf_hypoperfusion.serving.server.bearer import is_token
from tf_hypoperfusion.serving.server.errors import ServingError, stopping
from tf_hypoperfusion.serving.server.figures import Figures
from tf_hypoperfusion.serving.server.held_memory import HeldMemory, Share
from tf_hypoperfusion.serving.server.policies import ModelPolicy
from tf_hypoperfusion.serving.server.repository import Repository
from tf_hypoperfusion.serving.server.runner import Runner
from tf_hypoperfusion.serving.server.version import TensorHeader, Version

with light_imports.parts_only("tensorflow"):
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
# A connection without a call is closed.
IDLE_MS = 600_000
START_S = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrpcOptions:
    """Where the gRPC interface listens, its limits, and whom it answers.

    Attributes:
        address: HOST:PORT; port 0 takes a free one.
        max_request_bytes: larger requests are refused.
        max_requests: more predict requests at once are refused.
        token: asked for in each call's metadata, but for health; None asks for none.
        reload: serves other models from now on; None refuses to.
    """

    address: str
    max_request_bytes: int
    max_requests: int
    token: str | None = None
    reload: Callable[[list[ModelPolicy]], None] | None = None


class _Token(grpc.aio.ServerInterceptor):
    """Answers calls with the right bearer token only."""

    def __init__(self, token: str):
        self.token = token

        async def refuse(request: Any, context: Any) -> None:
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "expected metadata authorization: Bearer TOKEN"
            )

        self.refuse = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation, handler_call_details):
        given = dict(handler_call_details.invocation_metadata or ()).get("authorization", "")
        health = handler_call_details.method == grpc_health.CHECK
        if health or is_token(given, self.token):
            return await continuation(handler_call_details)
        return self.refuse


class _Readable(grpc.aio.ServerInterceptor):
    """Refuses bytes that are no message; gRPC itself writes a traceback for each of them."""

    async def intercept_service(self, continuation, handler_call_details):
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None or handler.request_deserializer is None:
            return handler

        def read(content: bytes) -> Any:
            try:
                return handler.request_deserializer(content)
            except DecodeError:
                return None

        async def answer(request: Any, context: Any) -> Any:
            if request is None:
                await context.abort(
                    grpc.StatusCode.INTERNAL, "the request's bytes are no message of this call"
                )
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(answer, read, handler.response_serializer)


class _Service:
    """What both services share: errors in gRPC's words, counted requests."""

    def __init__(self, repository: Repository, figures: Figures):
        self.repository, self.figures = repository, figures

    async def answered(self, call: Any, request: Any, context: Any) -> Any:
        """What a coroutine function answers, or its error as gRPC's."""
        try:
            return await call(request)
        except ServingError as error:
            refusal = error
        except Exception as error:  # a defect must not end the server, and must be seen
            refusal = ServingError("INTERNAL", f"{type(error).__name__}: {str(error)[:300]}")
        await context.abort(getattr(grpc.StatusCode, refusal.code), refusal.message)

    async def counted(self, api: str, call: Any, request: Any, context: Any) -> Any:
        """As :meth:`answered`, and counted."""
        began, status = time.monotonic(), "CANCELLED"

        async def noted(request: Any) -> Any:
            nonlocal status
            try:
                answer = await call(request)
                status = "OK"
                return answer
            except ServingError as error:
                status = error.code
                raise
            except Exception:
                status = "INTERNAL"
                raise

        try:
            return await self.answered(noted, request, context)
        finally:
            self.figures.record(
                request.model_spec.name, status, time.monotonic() - began,
                api=api, entrypoint="GRPC",
            )  # fmt: skip

    def version(self, request: Any) -> Version:
        """The version that is asked.

        Raises:
            ServingError: it names none, or one that is not there.
        """
        spec = _spec(request)
        if not spec.name:
            raise ServingError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        return self.repository.get(spec.name, _number(spec), spec.version_label or None)


def _spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
    return request.model_spec


def _number(spec: Any) -> int | None:
    return spec.version.value if spec.HasField("version") else None


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer, _Service):
    def __init__(
        self,
        repository: Repository,
        runner: Runner,
        *,
        figures: Figures,
        memory: HeldMemory,
        max_requests: int,
    ):
        _Service.__init__(self, repository, figures)
        self.runner, self.memory = runner, memory
        self.taken, self.max_requests, self.stopping = 0, max_requests, False
        self.threads = concurrent.futures.ThreadPoolExecutor(max_requests)

    async def Predict(self, request, context):
        return await self.counted("Predict", self._admit, request, context)

    async def _admit(self, request: Any) -> Any:
        if self.stopping:
            raise stopping()
        if self.taken >= self.max_requests:
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"{self.max_requests} requests are being answered or wait; try again later",
            )
        gone = threading.Event()
        self.taken += 1
        call = functools.partial(self._predict, request, gone)
        running = asyncio.get_running_loop().run_in_executor(self.threads, call)
        running.add_done_callback(self._ended)
        try:
            return await asyncio.shield(running)
        finally:  # also where the client has left
            gone.set()

    def _ended(self, running: Any) -> None:
        self.taken -= 1
        if not running.cancelled():
            running.exception()  # or asyncio would complain of one that nobody waits for

    def _predict(self, request: Any, gone: threading.Event) -> Any:
        with Share(self.memory) as share:
            share.set(2 * request.ByteSize())  # the message and its arrays
            version = self.version(request)
            signature = request.model_spec.signature_name or "serving_default"
            if signature not in version.signatures:
                raise ServingError(
                    "FAILED_PRECONDITION",
                    f'Serving signature key "{signature}" not found; expected one of '
                    f"{', '.join(sorted(version.signatures))}",
                )
            wanted = _wanted(version, signature, request.output_filter)
            inputs = _decoded(version, signature, request.inputs)
            outputs = self.runner.run(version, signature, inputs, gone=gone)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = version.name
        response.model_spec.version.value = version.number
        response.model_spec.signature_name = signature
        for name in wanted or outputs:
            response.outputs[name].CopyFrom(protobuf.tensor_of(outputs[name]))
        return response

    async def GetModelMetadata(self, request, context):
        async def metadata(request):
            _spec(request)
            if not request.metadata_field:
                raise ServingError(
                    "INVALID_ARGUMENT",
                    "GetModelMetadataRequest must specify at least one metadata_field",
                )
            for field in request.metadata_field:
                if field != "signature_def":
                    message = f"Metadata field {field} is not supported"
                    raise ServingError("INVALID_ARGUMENT", message)
            return messages.metadata(self.version(request))

        return await self.answered(metadata, request, context)

    async def Classify(self, request, context):
        return await self.counted("Classify", self._refused("classify"), request, context)

    async def Regress(self, request, context):
        return await self.counted("Regress", self._refused("regress"), request, context)

    def _refused(self, method: str) -> Any:
        async def refused(request):
            signature = _spec(request).signature_name
            raise classification.refusal(self.version(request), method, signature)

        return refused

    async def MultiInference(self, request, context):
        async def refused(request):
            if not request.tasks:
                raise ServingError("INVALID_ARGUMENT", "Inference request must have tasks.")
            for task in request.tasks:
                method = task.method_name.rsplit("/", 1)[-1]
                if method not in classification.OUTPUTS:
                    message = f"Unsupported signature method_name: {task.method_name}"
                    raise ServingError("UNIMPLEMENTED", message)
                signature = _spec(task).signature_name
                raise classification.refusal(self.version(task), method, signature)

        return await self.answered(refused, request, context)


def _wanted(version: Version, signature: str, names: Any) -> list[str]:
    """Outputs that a request asks for; none for all."""
    there = sorted(version.definitions[signature].outputs)
    for place, name in enumerate(names):
        if name not in there:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {{{','.join(there)}}}.",
            )
        if name in names[:place]:
            raise ServingError("INVALID_ARGUMENT", f"duplicate output tensor alias: {name}")
    return list(names)


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


class _Model(model_service_pb2_grpc.ModelServiceServicer, _Service):
    def __init__(
        self,
        repository: Repository,
        figures: Figures,
        reload: Callable[[list[ModelPolicy]], None] | None,
    ):
        _Service.__init__(self, repository, figures)
        self.reload = reload

    async def GetModelStatus(self, request, context):
        async def status(request):
            spec = _spec(request)
            return messages.status(self.repository.states(spec.name, _number(spec)))

        return await self.answered(status, request, context)

    async def HandleReloadConfigRequest(self, request, context):
        async def reloaded(request):
            if not self.reload:
                raise ServingError(
                    "PERMISSION_DENIED",
                    "this server does not let clients choose its models; start it with "
                    "--allow_reload, and with --token_file",
                )
            if request.config.WhichOneof("config") != "model_config_list":
                raise ServingError(
                    "INVALID_ARGUMENT",
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                    "ModelConfigList is currently supported",
                )
            await asyncio.to_thread(self.reload, policies.of_message(request.config))
            response = model_management_pb2.ReloadConfigResponse()
            response.status.error_code = 0
            for name in request.metric_names:
                response.metric.add(name=name)
            return response

        return await self.answered(reloaded, request, context)


class GrpcServer:
    """The services in a thread of their own.

    Args:
        repository: the models.
        runner: that answers.
        figures: where requests are counted.
        memory: that all requests hold at once.
        options: where it listens, its limits.

    Attributes:
        port: that it listens on, once started.
    """

    def __init__(
        self,
        repository: Repository,
        runner: Runner,
        *,
        figures: Figures,
        memory: HeldMemory,
        options: GrpcOptions,
    ):
        self._repository, self._runner, self._options = repository, runner, options
        self._prediction = _Prediction(
            repository, runner, figures=figures, memory=memory, max_requests=options.max_requests
        )
        self._model = _Model(repository, figures, options.reload)
        self._started: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Future[float] | None = None
        self.port = 0

    def start(self) -> None:
        """Listen.

        Raises:
            InputError: the port is in use, or no such address.
        """
        self._thread.start()
        self.port = self._started.result(START_S)

    def stop(self, grace_s: float) -> None:
        """Refuse new calls from now on; calls that were begun have so long to end."""

        def end() -> None:
            if self._end and not self._end.done():
                self._end.set_result(grace_s)

        self._prediction.stopping = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(end)

    def wait(self, wait_s: float) -> bool:
        """Wait for the end of all calls; whether they have ended."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.create_future()
        token, limit = self._options.token, self._options.max_request_bytes
        server = grpc.aio.server(
            interceptors=[*([_Token(token)] if token else ()), _Readable()],
            options=[
                # A second server on the port would take half of the clients.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_connection_idle_ms", IDLE_MS),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            self._prediction, server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self._model, server)
        server.add_generic_rpc_handlers([grpc_health.handler(self._ready, SERVICES)])
        address = self._options.address
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if not port:
            raise InputError(f"gRPC cannot listen on {address}; is it in use? Choose --grpc_port")
        await server.start()
        self._started.set_result(port)
        await server.stop(await self._end)

    def _ready(self) -> bool:
        stopping = self._prediction.stopping
        return bool(self._repository.names()) and not self._runner.stuck and not stopping
