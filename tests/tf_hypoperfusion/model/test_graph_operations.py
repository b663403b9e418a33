"""SavedModels from anywhere: those that could touch files are not loaded."""

import numpy as np
import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import SLAB
from tf_hypoperfusion.inference import model_files, predictors
from tf_hypoperfusion.model import graph_operations
from tf_hypoperfusion.serving.server.policies import ModelPolicy
from tf_hypoperfusion.serving.server.repository import Repository


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the stranger's model writes when it is asked."""
    return tmp_path_factory.mktemp("written") / "written"


@pytest.fixture(scope="module")
def stranger(written, tmp_path_factory):
    """With our inputs and outputs, and an operation that writes a file."""
    import tensorflow as tf

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, *SLAB), name="image"), tf.TensorSpec((None, 1), name="nihss")
        ]
    )  # fmt: skip
    def call(image, nihss):
        with tf.control_dependencies([tf.io.write_file(str(written), "written")]):
            return {"probability": module.weight * image[..., :1] + 0 * tf.reduce_sum(nihss)}

    module = tf.Module()
    module.weight = tf.Variable(0.0)
    folder = tmp_path_factory.mktemp("stranger") / "x/1"
    tf.saved_model.save(module, str(folder), {"serving_default": call})
    return folder


def test_it_is_refused_by_name_before_it_runs(stranger, written):
    with pytest.raises(InputError, match="files here: WriteFile; expected an export"):
        predictors.load(stranger)
    assert not written.exists()
    predictors.load(stranger, allow_operations=True)  # which asks it
    assert written.read_text() == "written"


def test_a_server_does_not_load_it_either(stranger):
    policy = ModelPolicy(name="x", folder=stranger.parent)
    serve = Repository(lambda: [policy])
    serve.refresh()
    assert serve.names() == [] and "WriteFile" in serve.states("x")[1].reason
    serve = Repository(lambda: [policy], allow_operations=True)
    serve.refresh()
    answer = serve.get("x").run(
        "serving_default",
        {"image": np.zeros((1, *SLAB), "f4"), "nihss": np.zeros((1, 1), "f4")},
    )
    assert answer["probability"].shape == (1, *SLAB[:-1], 1)


def test_our_exports_hold_ours_only():
    graph_operations.check(model_files.newest_version(model_files.demo_model()))


def test_what_reads_files_is_seen_wherever_it_hides(stranger):
    """In a function that only the loading of weights calls, and where only saving may."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = (stranger / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]
    functions = {each.signature.name: each for each in graph.graph_def.library.function}
    saver = graph.saver_def
    (restoring,) = (n for n in graph.graph_def.node if n.name == saver.restore_op_name)
    (saving,) = (n for n in graph.graph_def.node if n.name == saver.save_tensor_name.split(":")[0])
    assert graph_operations.foreign(graph) == {"WriteFile"}
    functions[restoring.attr["f"].func.name].node_def.add(name="x", op="ReadFile")
    assert graph_operations.foreign(graph) == {"WriteFile", "ReadFile"}
    # Called by what anybody asks, a function that saves counts too.
    graph.graph_def.node.add(name="other", op="PartitionedCall").attr["f"].func.name = saving.attr[
        "f"
    ].func.name
    assert "SaveV2" in graph_operations.foreign(graph)
