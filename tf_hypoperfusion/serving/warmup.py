"""The first requests of a version, which a server answers before it says that it is ready.

TensorFlow Serving finds them in ``assets.extra``.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_tools.grid import GRID_SHAPE, VOXEL_ML
from tf_hypoperfusion.inference.onnx_model import SLAB

FILE = "assets.extra/tf_serving_warmup_requests"
SIGNATURES = ("serving_default", "predict_volume", "predict_volume_bytes")


class FilledTensor(NamedTuple):
    """A tensor whose elements are all the same.

    Attributes:
        dtype: name of the type, as TensorFlow calls it.
        shape: sizes.
        value: every element.
    """

    dtype: str
    shape: tuple[int, ...]
    value: float | bytes


def smallest_request(signature: str) -> dict[str, FilledTensor]:
    """A smallest request of a signature."""
    if signature == "serving_default":
        return {
            "image": FilledTensor("float32", (1, *SLAB), 0.0),
            "nihss": FilledTensor("float32", (1, 1), 0.5),
        }
    volumes = {
        name: FilledTensor("float32", (1, *GRID_SHAPE), value)
        for name, value in (("dwi", 100.0), ("adc", 800.0), ("brain_mask", 1.0))
    }
    if signature == "predict_volume_bytes":
        volumes = {name: _packed(volume) for name, volume in volumes.items()}
    return volumes | {
        "nihss": FilledTensor("float32", (1, 1), 14.0),
        "side": FilledTensor("string", (1, 1), b"left"),
        "voxel_ml": FilledTensor("float32", (1, 1), VOXEL_ML),
    }


def _packed(volume: FilledTensor) -> FilledTensor:
    values = np.full(volume.shape[1:], volume.value, "<f4")
    return FilledTensor("string", (1,), gzip.compress(values.tobytes(), mtime=0))


def write(version_folder: Path, name: str) -> None:
    """Write a request of each signature of a model.

    Args:
        version_folder: of the SavedModel.
        name: of the model on the server.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = version_folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in SIGNATURES:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, tensor in smallest_request(signature).items():
                proto = request.inputs[key]
                proto.dtype = tf.as_dtype(tensor.dtype).as_datatype_enum
                proto.tensor_shape.CopyFrom(tf.TensorShape(tensor.shape).as_proto())
                # One value stands for all of a tensor whose others are the same.
                field = proto.string_val if tensor.dtype == "string" else proto.float_val
                field.append(tensor.value)
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def read(version_folder: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of each request; none where the model brought none."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    path = version_folder / FILE
    if path.is_file():
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            yield request.model_spec.signature_name, inputs
