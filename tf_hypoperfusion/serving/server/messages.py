"""What REST and gRPC both say of a model: TensorFlow Serving's messages of status and metadata."""

from collections.abc import Mapping

from tf_hypoperfusion.serving.protobuf import get_model_metadata_pb2, get_model_status_pb2
from tf_hypoperfusion.serving.server.repository import AVAILABLE, END, LOADING, VersionState
from tf_hypoperfusion.serving.server.version import Version


def status(states: Mapping[int, VersionState]) -> get_model_status_pb2.GetModelStatusResponse:
    """The status of a model's versions."""
    codes = get_model_status_pb2.ModelVersionStatus.State
    words = {LOADING: codes.LOADING, AVAILABLE: codes.AVAILABLE, END: codes.END}
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state in states.items():
        line = response.model_version_status.add(version=version, state=words[state.state])
        line.status.error_code = 2 if state.reason else 0  # UNKNOWN, OK
        line.status.error_message = state.reason
    return response


def metadata(version: Version) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a version as its SavedModel holds them."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = version.name
    response.model_spec.version.value = version.number
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in version.definitions.items():
        signatures.signature_def[name].CopyFrom(signature)
    response.metadata["signature_def"].Pack(signatures)
    return response


def signatures(
    said: get_model_metadata_pb2.GetModelMetadataResponse,
) -> get_model_metadata_pb2.SignatureDefMap:
    """The signatures in it."""
    found = get_model_metadata_pb2.SignatureDefMap()
    said.metadata["signature_def"].Unpack(found)
    return found
