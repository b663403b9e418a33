"""The networks inside an export: taken out of its SavedModel again, to be trained further.

An export holds no ``.keras`` files. What makes one is there all the same: ``model_card.json`` has
the settings of each network, and the checkpoint in ``variables/`` the weights of all of them, one
network after the other, each in the order of its ``variables``.
"""

from pathlib import Path
from typing import Any

from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.model.export_files import CARD, CHECKSUMS, damaged, networks


def read(version_folder: Path, number: int) -> Any:
    """One of the networks, with stock layers and float32, on whatever Keras runs already.

    Args:
        version_folder: of the export.
        number: of the network, from 0, in the order of the card.

    Raises:
        InputError: damaged files, a card that does not describe the weights, or no TensorFlow,
            without which nothing here reads its checkpoints.
    """
    if (version_folder / CHECKSUMS).is_file() and (wrong := damaged(version_folder)):
        raise InputError(
            f"model {version_folder}: damaged or missing: {', '.join(wrong)}; copy it again, or "
            "export again"
        )
    try:
        return _read(version_folder, number)
    except Exception as error:  # a file from anywhere can fail in any way
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"model {version_folder}: network {number} cannot be taken out of it ({reason[:200]}); "
            "expected an export as python -m tf_hypoperfusion.export wrote it, and TensorFlow here"
        ) from error


def _read(version_folder: Path, number: int) -> Any:
    import tensorflow as tf

    from tf_hypoperfusion.model.attention_unet import build_model

    said = [config.model_config(each.get("model")) for each in networks(version_folder)]
    settings = [each for each in said if each is not None]
    if len(settings) < len(said):
        raise ValueError(f"{CARD} does not say what its networks are built of")
    built = {each: build_model(each) for each in dict.fromkeys(settings)}
    checkpoint = tf.train.load_checkpoint(str(version_folder / "variables" / "variables"))
    types = checkpoint.get_variable_to_dtype_map()
    names = (f"weights/{k}/.ATTRIBUTES/VARIABLE_VALUE" for k in range(len(types)))
    # The others are seeds of dropout, which the two lines of Keras keep differently.
    weights = [name for name in names if types.get(name) == tf.float32]
    taken = [len(_weights(built[each])) for each in settings]
    if len(weights) != sum(taken):
        raise ValueError(f"it holds {len(weights)} weights, and by {CARD} {sum(taken)}")
    model = built[settings[number]]
    for name, variable in zip(weights[sum(taken[:number]) :], _weights(model), strict=False):
        variable.assign(checkpoint.get_tensor(name))  # of another shape: ValueError
    return model


def _weights(model: Any) -> list[Any]:
    return [variable for variable in model.variables if "float" in str(variable.dtype)]
