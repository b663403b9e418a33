"""Export a trained model as a SavedModel for TensorFlow Serving.

    python -m tf_hypoperfusion.export --model=runs/demo/fold-0/best.keras --name=hypoperfusion

Writes saved_models/NAME/VERSION with the signature serving_default: inputs ``image``
[b,128,128,16,4] and ``nihss`` [b,1], output ``probability`` [b,128,128,16,1], and a
model_card.json. The folder appears when it is whole, not before. Versions only grow.
"""

import sys
from pathlib import Path

from absl import flags

from data_tools import command

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "model", None, "best.keras of tf_hypoperfusion.train.", required=True, flag_values=FLAGS
)
flags.DEFINE_string("name", "hypoperfusion", "Name the server gives it.", flag_values=FLAGS)
flags.DEFINE_string("out", "saved_models", "Folder of all models.", flag_values=FLAGS)
flags.DEFINE_integer(
    "version", None, "Default: one above the highest there.", lower_bound=1, flag_values=FLAGS
)


def export(model: str, name: str, out: str, version: int | None = None) -> tuple[Path, bool]:
    """Export one model.

    Returns:
        The version's folder, and whether this model was already exported as the newest version.

    Raises:
        InputError: no such model, or a version that does not grow.
    """
    import shutil

    from data_tools import atomic
    from data_tools.errors import InputError
    from tf_hypoperfusion import __version__, predictors
    from tf_hypoperfusion.config import RESEARCH_NOTICE

    known = predictors.describe(model)
    if not str(known["path"]).endswith(".keras"):
        raise InputError(f"--model {model} is a SavedModel already; expected a .keras file")
    if not name or "/" in name or name.startswith("."):
        raise InputError(f"--name is {name!r}; expected a plain folder name")
    folder = Path(out) / name
    versions = sorted(int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit())
    newest = versions[-1] if versions else 0
    if newest and version in (None, newest):
        newest_card = atomic.read_json(folder / str(newest) / "model_card.json")
        if newest_card.get("sha256") == known["sha256"]:
            return folder / str(newest), True
    version = newest + 1 if version is None else version
    if version <= newest:
        raise InputError(
            f"{folder} already holds version {newest}; versions only grow, or a server would not "
            f"load it. Expected --version={newest + 1} or more."
        )
    target = folder / str(version)
    partial = folder / f".tmp-{version}"  # not a number: a server watching the folder skips it
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _save(model, partial)
        settings = atomic.read_json(Path(model).with_name("config.json"))
        card = {
            "name": name,
            "version": version,
            "notice": RESEARCH_NOTICE,
            "tf_hypoperfusion": __version__,
            "model": known["path"],
            "sha256": known["sha256"],
            **{key: settings.get(key) for key in ("fold", "records", "training", "software")},
            "architecture": settings.get("model"),
        }
        atomic.write_json(partial / "model_card.json", card)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target, False


def _save(model: str, folder: Path) -> None:
    from data_tools.grid import SLAB_SHAPE
    from tf_hypoperfusion.config import CHANNELS
    from tf_hypoperfusion.predictors import load_keras

    network = load_keras(Path(model))

    import keras
    import tensorflow as tf

    from tf_hypoperfusion.keras_compat import write_archive

    def serve(inputs):
        # A wrong rank that reached the first convolution would abort the server's process.
        image = tf.ensure_shape(inputs["image"], (None, *SLAB_SHAPE, len(CHANNELS)))
        nihss = tf.ensure_shape(inputs["nihss"], (None, 1))
        return network({"image": image, "nihss": nihss}, training=False)

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serving_default",
        serve,
        input_signature=[
            {
                "image": tf.TensorSpec((None, *SLAB_SHAPE, len(CHANNELS)), tf.float32, "image"),
                "nihss": tf.TensorSpec((None, 1), tf.float32, "nihss"),
            }
        ],
    )
    write_archive(archive, str(folder))


def main() -> int:
    """Run the command."""
    from data_tools import atomic

    atomic.check_writable(FLAGS.out)
    with atomic.one_writer(f"{FLAGS.out}/{FLAGS.name}"):
        folder, kept = export(FLAGS.model, FLAGS.name, FLAGS.out, FLAGS.version)
    print(f"{folder}: {'already exported' if kept else 'exported'}")
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
