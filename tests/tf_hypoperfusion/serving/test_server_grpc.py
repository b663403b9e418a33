"""gRPC: the answers of REST, and refusals with gRPC's words."""

import grpc
import numpy as np
import pytest


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
