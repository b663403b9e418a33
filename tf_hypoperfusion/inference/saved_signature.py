"""One signature of a SavedModel in TensorFlow, without the others.

``tf.saved_model.load`` brings all of a model's graphs to life, and each first call optimises its
own in every way there is. Of an export with three signatures, five networks each, a prediction
needs one: it is cut out before TensorFlow builds anything, and optimised once. Half the time, and
the same answers.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.runtime import tensorflow_start
from tf_hypoperfusion.model import graph_operations

Shapes = dict[str, tuple[int | None, ...]]


class SavedSignature:
    """``serving_default`` of a SavedModel: its shapes at once, its answers after :meth:`start`."""

    def __init__(self, folder: Path) -> None:
        """Read the model's graph.

        Args:
            folder: of the SavedModel.
        """
        tensorflow_start.prepare()
        from tensorflow.core.protobuf import saved_model_pb2

        content = (folder / "saved_model.pb").read_bytes()
        self._folder = folder
        self._graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]
        self._signature = self._graph.signature_def["serving_default"]

    def inputs(self) -> Shapes:
        """Shape of each input, without its first dimension; empty without such a signature."""
        return _shapes(self._signature.inputs)

    def outputs(self) -> Shapes:
        """Shape of each output, as :meth:`inputs`."""
        return _shapes(self._signature.outputs)

    def start(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        """Build what the signature needs, and read the weights.

        Args:
            inputs: names, in the order in which they will be given.
            outputs: names of what is asked for.

        Returns:
            A function of arrays, one for each of ``inputs``, that gives a list of arrays, one for
            each of ``outputs``.
        """
        import tensorflow as tf

        v1, saver = tf.compat.v1, self._graph.saver_def
        given = [self._signature.inputs[name].name for name in inputs]
        wanted = [self._signature.outputs[name].name for name in outputs]
        ends = [*(name.split(":")[0] for name in wanted), saver.restore_op_name]
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(_needed(self._graph.graph_def, ends), name="")
            session = v1.Session(graph=graph, config=_once_optimised())
            variables = str(self._folder / "variables/variables")
            session.run(saver.restore_op_name, {saver.filename_tensor_name: variables})
        call = session.make_callable(wanted, given)

        def run(*values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
            return call(*(np.asarray(value, np.float32) for value in values))

        return run


def _shapes(tensors: Any) -> Shapes:
    return {
        name: tuple(None if dim.size < 0 else dim.size for dim in tensor.tensor_shape.dim[1:])
        for name, tensor in tensors.items()
    }


def _needed(graph: Any, ends: Iterable[str]) -> Any:
    """The nodes that some nodes depend on, and the functions that these call."""
    from tensorflow.core.framework import graph_pb2

    nodes = {node.name: node for node in graph.node}
    found: dict[str, Any] = {}
    todo = list(ends)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = nodes[name]
            todo += [source.lstrip("^").split(":")[0] for source in nodes[name].input]
    functions = {each.signature.name: each for each in graph.library.function}
    called: dict[str, Any] = {}
    todo = list(graph_operations.called(found.values()))
    while todo:
        name = todo.pop()
        if name in functions and name not in called:
            called[name] = functions[name]
            todo += graph_operations.called(functions[name].node_def)
    part = graph_pb2.GraphDef(versions=graph.versions)
    part.node.extend(node for node in graph.node if node.name in found)
    part.library.function.extend(called.values())
    return part


def _once_optimised() -> Any:
    """Functions laid open and operations joined; the other optimisations find nothing here."""
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    options.optimizers.extend(["function", "remapper"])
    return config
