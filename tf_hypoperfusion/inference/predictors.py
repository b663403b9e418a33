"""Trained models on disk -> predictors for :mod:`tf_hypoperfusion.inference.sliding_window`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import SLAB_SHAPE
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.runtime.tensorflow_start import counted_alone
from tf_hypoperfusion.config import SLAB
from tf_hypoperfusion.inference import model_files, onnx_model, onnx_runtimes
from tf_hypoperfusion.inference.onnx_runtimes import LoadedModel
from tf_hypoperfusion.inference.saved_signature import SavedSignature
from tf_hypoperfusion.inference.sliding_window import Predictor, SlabModel
from tf_hypoperfusion.model import graph_operations, keras_file

RUNTIMES = ("auto", *onnx_runtimes.PROGRAMS, "tensorflow")
# Of a network, in the order of a predictor's channels; not every one has the second.
ANSWERS = (onnx_runtimes.MEAN, onnx_runtimes.CORE)


def load_predictor(path: str | Path, precision: str | None = None) -> Predictor:
    """What asks a model: the predictor of :func:`load`, without saying whether it has a core.

    Args:
        path: of the file or folder.
        precision: as in :func:`load`.
    """
    return load(path, precision=precision).predict


def load(
    path: str | Path,
    runtime: str = "auto",
    precision: str | None = None,
    *,
    allow_operations: bool = False,
) -> LoadedModel:
    """Load a ``.keras`` file, an export or an ONNX file, and try it on a made-up slab.

    An export is run in its ONNX form, if it has one and something here runs it: its networks then
    answer one by one. TensorFlow, which takes longer to start, gives their average.

    Args:
        path: of the file or folder.
        runtime: one of :data:`RUNTIMES`.
        precision: ``float32`` or ``bfloat16``; None takes the model's own. A SavedModel in
            TensorFlow has no other, and an ONNX file computes in float32 where the machine does not
            multiply bfloat16.
        allow_operations: run a SavedModel that holds other operations than ours.

    Raises:
        InputError: no such file, not a model, an export whose files are not as they were written
            (where it has checksums), a runtime that is not here or does not run such a file, or a
            model that does not answer a slab and an NIHSS with a probability for each voxel.
    """
    path = model_files.check_undamaged(path)
    check_runtime(path, runtime)
    model = start(path, runtime, precision, allow_operations=allow_operations)
    # Numbers of either sign: of zeros a network of scores may make a probability by chance.
    image = np.random.default_rng(0).normal(size=(1, *SLAB)).astype(np.float32)
    checked(model, path)(image, np.zeros((1, 1), np.float32))
    return model


def start(
    path: Path, runtime: str, precision: str | None, *, allow_operations: bool = False
) -> LoadedModel:
    """Load a model whose files are looked at already, and ask it nothing yet.

    Args:
        path: as :func:`model_files.check_undamaged` gives it.
        runtime: one of :data:`RUNTIMES`.
        precision: as in :func:`load`.
        allow_operations: as in :func:`load`.

    Raises:
        InputError: not a model, or no program here that runs it.
    """
    try:
        return _load(path, runtime, precision, allow_operations)
    except InputError:  # which has said all
        raise
    except Exception as error:
        raise keras_file.no_model(path, error) from error


def checked(model: LoadedModel, path: Path) -> Predictor:
    """A model's predictor that refuses, as an InputError, what is no probability of each voxel.

    Args:
        model: that answers.
        path: where it was loaded from, for the message.
    """

    def predict(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            answer = model.predict(image, nihss)
            if answer.shape[:-1] != (len(image), *SLAB_SHAPE):
                raise ValueError(f"it answers with shape {answer.shape}")
            if not (answer >= 0).all() or not (answer <= 1).all():
                raise ValueError("its answer is no probability")
        except Exception as error:  # a file from anywhere can fail in any way
            raise keras_file.no_model(path, error) from error
        return answer

    return predict


def check_runtime(path: Path, runtime: str) -> None:
    """Refuse, before anything is started, a runtime that does not run such a model.

    Args:
        path: as :func:`model_files.check_path` gives it.
        runtime: one of :data:`RUNTIMES`.

    Raises:
        InputError: what to do instead.
    """
    if path.suffix == ".onnx" and runtime == "tensorflow":
        raise InputError(f"model {path}: TensorFlow does not run ONNX files; leave --runtime out")
    if runtime in onnx_runtimes.PROGRAMS and onnx_form(path) is None:
        raise InputError(
            f"model {path}: it has no {onnx_model.FILE}, which {runtime} would run; leave "
            "--runtime out, or export it with python -m tf_hypoperfusion.export"
        )


def onnx_form(path: Path) -> Path | None:
    """The ONNX file of a model; None if it has none.

    Args:
        path: as :func:`model_files.check_path` gives it.
    """
    if path.is_dir():
        path = path / onnx_model.FILE
    return path if path.suffix == ".onnx" and path.is_file() else None


def _load(path: Path, runtime: str, precision: str | None, allow_operations: bool) -> LoadedModel:
    form = None if runtime == "tensorflow" else onnx_form(path)
    if form is not None:
        program = None if runtime == "auto" else runtime
        try:
            loaded = onnx_runtimes.load(form, program, precision or _own_precision(form))
            _say_if_other(loaded, precision)
            return loaded
        except onnx_runtimes.NoProgramError as error:
            if not path.is_dir() or program:
                raise
            print(f"{error}. TensorFlow answers, and takes longer to start", file=sys.stderr)
    if path.is_dir():
        if not allow_operations:
            graph_operations.check(path)
        model, found = _load_saved_model(path), _own_precision(path)
    else:
        found = precision or "float32"
        network = for_prediction(keras_file.load(path), found)
        model = SlabModel(of_keras(network), cores=ANSWERS[1] in network.output)
    import tensorflow as tf

    runtime = f"tensorflow {tf.__version__}"
    loaded = LoadedModel(model.predict, runtime, found, cores=model.cores)
    _say_if_other(loaded, precision)
    return loaded


def _say_if_other(loaded: LoadedModel, precision: str | None) -> None:
    """Say where another precision was asked for."""
    if precision not in (None, loaded.precision):
        print(f"{loaded.runtime} computes in {loaded.precision} here, not in {precision}",
              file=sys.stderr)  # fmt: skip


def _own_precision(path: Path) -> str:
    """What the card of an export says that it computes in."""
    card = atomic.read_json((path if path.is_dir() else path.parent) / "model_card.json")
    return str(card.get("precision", "float32"))


def _load_saved_model(path: Path) -> SlabModel:
    signature = SavedSignature(path)
    given = signature.outputs()
    keras_file.check_ours(signature.inputs(), given)
    ask = signature.start(("image", "nihss"), [name for name in ANSWERS if name in given])

    def predict(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        answers = ask(image, nihss)
        return answers[0] if len(answers) == 1 else np.concatenate(answers, axis=-1)

    return SlabModel(predict, cores=len(given) > 1)


def of_keras(model: Any) -> Predictor:
    """A Keras model with our inputs and outputs as a predictor."""
    import tensorflow as tf

    def call(image, nihss):
        given = model({"image": image, "nihss": nihss}, training=False)
        answers = [given[name] for name in ANSWERS if name in given]
        return answers[0] if len(answers) == 1 else tf.concat(answers, axis=-1)

    return _compiled(call, model)


def for_prediction(model: Any, precision: str = "float32") -> Any:
    """The same network and weights, computing in ``float32`` or ``bfloat16`` with the faster layers
    of :mod:`tf_hypoperfusion.model.fast_layers`.

    What it answers stays float32: near 0 and 1 sixteen bits have too few digits. The model given is
    not to be used any more: it is this one, unless another precision needs another model.
    """
    import keras

    from tf_hypoperfusion.model import fast_layers
    from tf_hypoperfusion.model.keras_compat import dtype_policy

    answer = ("probability_inside", "probability", "core_inside", "core")

    def changes(layer: Any) -> bool:
        return layer.name not in answer and not isinstance(layer, keras.layers.InputLayer)

    def with_policy(layer: Any) -> Any:
        config = layer.get_config()
        if changes(layer) and "dtype" in config:  # an operation that is no layer has none
            config["dtype"] = dtype_policy(precision)
        return layer.__class__.from_config(config)

    if any(layer.compute_dtype != precision for layer in model.layers if changes(layer)):
        weights = model.get_weights()
        model = keras.models.clone_model(model, clone_function=with_policy)
        model.set_weights(weights)
    fast_layers.use_fast_layers(model)
    return model


def _compiled(call: Any, model: Any) -> Predictor:
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *SLAB), tf.float32), tf.TensorSpec((None, 1), tf.float32)]
    graph = tf.function(counted_alone(call), input_signature=signature, autograph=False)
    graph.keep_alive = model  # a signature does not hold its model's variables

    def predict(image, nihss):
        image = tf.constant(np.asarray(image, np.float32))
        return graph(image, tf.constant(np.asarray(nihss, np.float32))).numpy()

    return predict
