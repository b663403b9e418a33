"""gRPC: the answers of REST, and refusals with gRPC's words."""

import threading

import grpc
import numpy as np
import pytest
import requests
from helpers.serving import ServerHere


def test_grpc_gives_what_rest_gives(server, slab):
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    expected = slab[2]
    image, nihss = (array.astype(np.float32) for array in slab[:2])
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "stroke"
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
        request.inputs["nihss"].CopyFrom(tf.make_tensor_proto(nihss))
        answer = tf.make_ndarray(stub.Predict(request, timeout=60).outputs["probability"])
        np.testing.assert_allclose(answer, expected, atol=1e-6)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "stroke"
        found = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status)
        assert found.model_version_status[0].version == 1
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(image[0]))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, timeout=60)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "image: shape [128, 128, 16, 4]" in caught.value.details()
        # A hundred bytes that stand for a terabyte.
        request.inputs["image"].Clear()
        request.inputs["image"].dtype = 1
        for size in (1000, 128_000, 128, 16, 4):
            request.inputs["image"].tensor_shape.dim.add(size=size)
        request.inputs["image"].float_val.append(0)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, timeout=60)
        assert "image: shape [1000, 128000" in caught.value.details()
        status.model_spec.version.value = 77
        with pytest.raises(grpc.RpcError) as caught:
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as opened:
        yield opened


@pytest.fixture
def slab_request(slab):
    from tf_hypoperfusion.serving import protobuf

    image, nihss = (array.astype(np.float32) for array in slab[:2])
    request = protobuf.predict_pb2.PredictRequest()
    request.model_spec.name = "stroke"
    request.inputs["image"].CopyFrom(protobuf.tensor_of(image))
    request.inputs["nihss"].CopyFrom(protobuf.tensor_of(nihss))
    return request


def refusal(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=60)
    return caught.value.code().name, caught.value.details()


def test_outputs_can_be_chosen_and_refusals_are_tensorflow_servings(channel, slab_request):
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    slab_request.output_filter.append("probability")
    assert list(predict(slab_request, timeout=60).outputs) == ["probability"]
    changes = {
        "none": "output tensor alias not found in signature: none",
        "probability": "duplicate output tensor alias: probability",
    }
    for name, message in changes.items():
        request = type(slab_request).FromString(slab_request.SerializeToString())
        request.output_filter.append(name)
        code, details = refusal(predict, request)
        assert code == "INVALID_ARGUMENT" and message in details
    request = type(slab_request).FromString(slab_request.SerializeToString())
    request.model_spec.signature_name = "none"
    code, details = refusal(predict, request)
    assert code == "FAILED_PRECONDITION" and 'Serving signature key "none" not found' in details
    request.model_spec.signature_name = ""
    request.model_spec.version_label = "none"
    assert refusal(predict, request) == (
        "INVALID_ARGUMENT", "Unrecognized servable version label: none",
    )  # fmt: skip
    request.model_spec.version.value = 7
    assert refusal(predict, request) == (
        "NOT_FOUND", "Servable not found for request: Specific(stroke, 7)",
    )  # fmt: skip
    request.model_spec.name = ""
    assert refusal(predict, request) == ("INVALID_ARGUMENT", "ModelSpec has no name specified.")
    request.ClearField("model_spec")
    assert refusal(predict, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_metadata_wants_its_field_and_other_methods_are_refused_in_words(server, channel):
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    before = server.log.read_text()
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    assert refusal(stub.GetModelMetadata, asked) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    asked.model_spec.name = "stroke"
    assert refusal(stub.GetModelMetadata, asked)[1] == (
        "GetModelMetadataRequest must specify at least one metadata_field"
    )
    asked.metadata_field.append("signature_def")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    stub.GetModelMetadata(asked, timeout=60).metadata["signature_def"].Unpack(signatures)
    assert "predict_volume" in signatures.signature_def
    asked.metadata_field.append("other")
    assert refusal(stub.GetModelMetadata, asked)[1] == "Metadata field other is not supported"
    status = get_model_status_pb2.GetModelStatusRequest()
    assert refusal(models.GetModelStatus, status) == ("INVALID_ARGUMENT", "Missing ModelSpec")

    for call, request in (
        (stub.Classify, classification_pb2.ClassificationRequest()),
        (stub.Regress, regression_pb2.RegressionRequest()),
    ):
        assert refusal(call, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
        request.model_spec.name = "stroke"
        assert refusal(call, request) == ("INVALID_ARGUMENT", "Expected one input Tensor.")
    both = inference_pb2.MultiInferenceRequest()
    assert refusal(stub.MultiInference, both)[0] == "INVALID_ARGUMENT"
    task = both.tasks.add(method_name="tensorflow/serving/classify")
    task.model_spec.name = "stroke"
    assert refusal(stub.MultiInference, both)[1] == "Expected one input Tensor."
    reload = model_management_pb2.ReloadConfigRequest()
    assert refusal(models.HandleReloadConfigRequest, reload)[0] == "PERMISSION_DENIED"
    for path in ("/grpc.health.v1.Health/Watch", "/tensorflow.serving.SessionService/SessionRun"):
        assert refusal(channel.unary_unary(path), b"")[0] == "UNIMPLEMENTED"
    code, message = refusal(
        channel.unary_unary("/tensorflow.serving.PredictionService/Predict"), b"\xff\xff\xff"
    )
    assert code == "INTERNAL" and "no message of this call" in message
    assert server.log.read_text() == before  # no tracebacks


def test_calls_that_never_send_their_message_hold_up_nobody(channel, slab_request):
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    never = threading.Event()

    def nothing():
        never.wait()
        yield b""

    path = "/tensorflow.serving.PredictionService/Predict"
    hanging = [channel.stream_unary(path).future(nothing()) for _ in range(90)]
    assert predict(slab_request, timeout=120).outputs
    never.set()
    for each in hanging:
        each.cancel()


def test_clients_choose_the_models_where_they_may(saved_models, tmp_path):
    from google.protobuf import text_format
    from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

    serve = ServerHere(saved_models, allow_reload=True)
    with grpc.insecure_channel(f"127.0.0.1:{serve.grpc_port}") as channel:
        reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        asked = model_management_pb2.ReloadConfigRequest()
        assert refusal(reload, asked)[0] == "INVALID_ARGUMENT"
        text_format.Parse(
            f'config {{ name: "other" base_path: "{saved_models}/stroke" }}',
            asked.config.model_config_list,
        )
        assert reload(asked, timeout=120).status.error_code == 0
        assert requests.get(f"{serve.url}/readyz").json()["models"] == ["other"]
        asked.config.model_config_list.config[0].name = "none"
        asked.config.model_config_list.config[0].base_path = str(tmp_path)
        code, details = refusal(reload, asked)
        assert (code, details) == ("UNKNOWN", "no version could be loaded of none")
    assert serve.stop()
