"""The first requests of a version, which a server answers before it says that it is ready.

TensorFlow Serving finds them in ``assets.extra``.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.grid import VOXEL_ML
from data_tools.template import template_on_grid
from tf_hypoperfusion.config import SLAB
from tf_hypoperfusion.serving import protobuf
from tf_hypoperfusion.serving.protobuf import predict_pb2, prediction_log_pb2

FILE = "assets.extra/tf_serving_warmup_requests"
# Not predict_volume, whose volumes would be megabytes: predict_volume_bytes runs the same graph.
SIGNATURES = ("serving_default", "predict_volume_bytes")


def smallest_request(signature: str) -> dict[str, np.ndarray]:
    """A smallest request of a signature; that of a patient is the template itself."""
    if signature == "serving_default":
        return {
            "image": np.zeros((1, *SLAB), np.float32),
            "nihss": np.full((1, 1), 0.5, np.float32),
        }
    tissue, brain = template_on_grid()
    fluid = tissue < 0.5
    volumes = {
        "dwi": np.where(brain, np.where(fluid, 40, 100), 0).astype("<f4"),
        "adc": np.where(brain, np.where(fluid, 1500, 800), 0).astype("<f4"),
        "brain_mask": brain.astype("<f4"),
    }
    if signature == "predict_volume_bytes":
        inputs = {
            name: np.array([gzip.compress(volume.tobytes(), mtime=0)], object)
            for name, volume in volumes.items()
        }
    else:
        inputs = {name: volume[np.newaxis] for name, volume in volumes.items()}
    return inputs | {
        "nihss": np.full((1, 1), 14, np.float32),
        "side": np.array([[b"left"]], object),
        "voxel_ml": np.full((1, 1), VOXEL_ML, np.float32),
    }


def write(version_folder: Path, name: str) -> None:
    """Write a request of each of :data:`SIGNATURES`.

    Args:
        version_folder: of the SavedModel.
        name: of the model on the server.
    """
    import tensorflow as tf

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
                field = proto.string_val if tensor.dtype == object else proto.float_val
                field.extend(_without_end(tensor.ravel()))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def _without_end(values: np.ndarray) -> np.ndarray:
    """Without the values at the end that are all the same, but for the first: it stands for all."""
    other = np.flatnonzero(values != values[-1])
    return values[: other[-1] + 2] if len(other) else values[:1]


def read(version_folder: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of each request; none where the model brought none."""
    path = version_folder / FILE
    if path.is_file():
        for record in protobuf.records(path):
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: protobuf.array_of(value) for name, value in request.inputs.items()}
            yield request.model_spec.signature_name, inputs
