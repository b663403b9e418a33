"""Which operations a SavedModel holds: one from anywhere could read, write and send files.

TensorFlow runs whatever a graph says, as the user who started it. Our exports compute, and no more:
a model that holds other operations than they do is not loaded unless the user trusts it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_tools.runtime import light_imports
from data_tools.runtime.errors import InputError

# Those of our exports, and others that compute from what they are given and touch nothing else.
_COMPUTE = """
Abs AddN AddV2 All Any ArgMax ArgMin AsString Assert AssignVariableOp AvgPool AvgPool3D
BatchMatMulV2 BatchToSpaceND BiasAdd BroadcastArgs BroadcastTo Cast Ceil ClipByValue Concat ConcatV2
Const Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cumsum DecodeCompressed DecodeRaw
DepthwiseConv2dNative DisableCopyOnRead Div DivNoNan Einsum Elu EncodePng EnsureShape Equal Erf Exp
ExpandDims Expm1 Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3
GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If IsFinite IsInf IsNan L2Loss LeakyRelu
Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool MaxPool3D
MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mul Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2
PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient Prod Range Rank
ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2
Round Rsqrt ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid Sign Size Slice Softmax Softplus
Softsign SpaceToBatchND Split SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall
StatelessIf StatelessWhile StaticRegexFullMatch StopGradient StridedSlice StringJoin StringLength
Sub Substr Sum Tanh TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem
TensorListStack Tile TopKV2 Transpose Unpack UnsortedSegmentSum VarHandleOp Where While ZerosLike
"""
COMPUTE = frozenset(_COMPUTE.split())
# How every SavedModel reads its own weights; nothing else of it may.
READS_WEIGHTS = frozenset(["RestoreV2"])
MOST_NAMED = 8


def check(version_folder: Path) -> None:
    """Refuse a SavedModel that holds other operations than ours, before TensorFlow loads it.

    Args:
        version_folder: of the SavedModel.

    Raises:
        InputError: it does, by name.
    """
    with light_imports.parts_only("tensorflow"):  # where an ONNX file answers there may be none
        from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((version_folder / "saved_model.pb").read_bytes())
    found = sorted(set().union(*map(foreign, saved.meta_graphs)))
    if found:
        more = "..." if len(found) > MOST_NAMED else ""
        raise InputError(
            f"model {version_folder}: holds operations that no model of ours needs, and that could "
            f"read or write files here: {', '.join(found[:MOST_NAMED])}{more}; expected an export "
            "of python -m tf_hypoperfusion.export. If you trust whoever made it, predict and serve "
            "load it with --allow_operations"
        )


def foreign(graph: Any) -> set[str]:
    """Operations of a graph that are not ours, but for those that only save it, which nobody runs.

    Args:
        graph: a ``MetaGraphDef``.
    """
    functions = {each.signature.name: each for each in graph.graph_def.library.function}
    saver = graph.saver_def
    saving, restoring = (
        name.split(":")[0] for name in (saver.save_tensor_name, saver.restore_op_name)
    )
    own: dict[str, set[str]] = {saving: set(), restoring: set()}
    others, operations = set(functions), set()
    for node in graph.graph_def.node:
        operations.add(node.op)
        if node.name in own:
            own[node.name] = _reached(node, functions)
    for reached in own.values():
        others -= reached
    for node in graph.graph_def.node:
        if node.name not in own:
            others |= _reached(node, functions)
    for name in list(others):
        for node in functions[name].node_def:
            others |= _reached(node, functions)
    for name in others:
        operations |= {node.op for node in functions[name].node_def}
    reading = {
        node.op for name in own[restoring] - others for node in functions[name].node_def
    } - READS_WEIGHTS
    return (operations | reading) - COMPUTE


def _reached(node: Any, functions: dict[str, Any]) -> set[str]:
    """Functions that a node calls, and those that these call."""
    found: set[str] = set()
    todo = list(called([node]))
    while todo:
        name = todo.pop()
        if name in functions and name not in found:
            found.add(name)
            todo += called(functions[name].node_def)
    return found


def called(nodes: Iterable[Any]) -> Iterator[str]:
    """Names of the functions that nodes call."""
    for node in nodes:
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)
        yield node.op  # a function may be called by its name
