"""A SavedModel that TensorFlow answers with."""

import re
from pathlib import Path

import numpy as np

from data_tools.runtime import tensorflow_start
from tf_hypoperfusion.serving.server.errors import ServingError


class TensorFlowModel:
    """Every signature of a SavedModel, in TensorFlow.

    Attributes:
        needs_warm_up: True: each signature's first request takes seconds more than the next.
    """

    needs_warm_up = True

    def __init__(self, folder: Path) -> None:
        """Start TensorFlow, where it is not, and load the model.

        Args:
            folder: of the SavedModel.
        """
        tensorflow_start.prepare()
        import tensorflow as tf

        self._model = tf.saved_model.load(str(folder))

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer checked inputs.

        Args:
            signature: of the model.
            inputs: arrays by name.

        Raises:
            ServingError: what the graph refuses.
        """
        import tensorflow as tf

        call = self._model.signatures[signature]
        try:
            answer = call(**{name: tf.constant(value) for name, value in inputs.items()})
            return {name: value.numpy() for name, value in answer.items()}
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise explain(error) from error


def explain(error: Exception) -> ServingError:
    """A TensorFlow error in the words of the check that failed, where one did."""
    import tensorflow as tf

    text = str(error)
    found = re.search(r"assertion failed: \[(.*?)\](?:\s*\[|\s*$)", text, re.S | re.M)
    known = isinstance(error, (tf.errors.InvalidArgumentError, tf.errors.DataLossError))
    if found:
        return ServingError("INVALID_ARGUMENT", found.group(1).replace("\\'", "'"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    short = next((x for x in lines if not x.startswith(("Graph", "Detected", "<"))), text)[:300]
    return ServingError("INVALID_ARGUMENT" if known else "INTERNAL", short)
