"""MONAI's AttentionUnet trained as a fold of ours was: same records, order of size, steps, loss.

    python -m benchmarks.monai_rival --others=others/bin/python --records=records \\
        --run=runs/mine --fold=0 --out=runs/monai
    python -m tf_hypoperfusion.evaluate --run=runs/monai --records=records --fold=0

--others is a Python with torch, monai and onnx. Widths, epochs, batch, learning rates, dropout,
moving average, mirror, margin and loss are read from the fold of --run; the network takes no NIHSS.
The weights of the epoch with the lowest validation loss become OUT/fold-N/model.onnx, which
evaluate takes in place of best.keras. Killed, it begins anew; a finished fold is kept.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from benchmarks.measuring import options
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    from data_tools.manifest import Manifest

FLAGS = flags.FlagValues()
options.others(FLAGS, ("torch", "monai", "onnx", "onnxscript"), required=True)
options.folder("records", "manifest.json", "the folder of data_tools.build_records.", FLAGS)
options.folder(
    "run", "summary.json", "a run of tf_hypoperfusion.train, whose fold is followed.", FLAGS
)
flags.DEFINE_integer("fold", 0, "Fold.", 0, 4, flag_values=FLAGS)
flags.DEFINE_string("out", None, "Run to write to.", required=True, flag_values=FLAGS)


def write_slabs(records: str, manifest: "Manifest", subsets: list[int], stem: Path) -> int:
    """Image (float16) and truth with coverage (uint8) of some subsets, channels first; how many."""
    import numpy as np

    from tf_hypoperfusion.training import input_pipeline

    count = sum(manifest.subsets[k].slabs for k in subsets)
    images = np.lib.format.open_memmap(
        f"{stem}_image.npy", "w+", np.float16, (count, 4, 128, 128, 16)
    )
    truths = np.lib.format.open_memmap(
        f"{stem}_y_true.npy", "w+", np.uint8, (count, 2, 128, 128, 16)
    )
    first = 0
    for subset in subsets:
        for _, patient in input_pipeline.read_patients(records, manifest, subset):
            last = first + len(patient["starts"])
            images[first:last] = np.moveaxis(patient["image"], -1, 1)
            # MONAI's network learns truth and coverage, and no core.
            truths[first:last] = np.moveaxis(patient["y_true"], -1, 1)[:, :2]
            first = last
    images.flush()
    truths.flush()
    return count


def main() -> None:
    """Train and write the fold."""
    from data_tools.records import load_manifest

    config = atomic.read_json(Path(FLAGS.run) / f"fold-{FLAGS.fold}/config.json")
    if not config:
        raise InputError(f"{FLAGS.run}/fold-{FLAGS.fold} has no config.json; train the fold first")
    atomic.check_writable(FLAGS.out)
    manifest = load_manifest(FLAGS.records)
    if config["records"]["fingerprint"] != manifest.fingerprint:
        raise InputError(f"{FLAGS.run} was trained on other records than {FLAGS.records}")
    folder = Path(FLAGS.out) / f"fold-{FLAGS.fold}"
    if (folder / "model.onnx").is_file():
        print(f"{folder} is there already")
        return
    if (folder / "best.keras").is_file():
        raise InputError(f"{folder} holds a fold of ours; expected another run as --out")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for role in ("train", "validation"):
            count = write_slabs(
                FLAGS.records, manifest, config["subsets"][role], Path(place) / role
            )
            print(f"{role}: {count} slabs")
        atomic.write_json(Path(place) / "config.json", config)
        training = [
            options.interpreter(FLAGS.others),
            "-m",
            "benchmarks.ways.monai_training",
            place,
        ]
        if status := subprocess.run(training, cwd=Path(__file__).parents[1]).returncode:
            raise InputError(
                f"MONAI's training ended with exit status {status}; what it said stands above"
            )
        network = "MONAI AttentionUnet"
        atomic.write_json(folder / "config.json", {**config, "network": network})
        for name in ("history.csv", "model.onnx"):  # the network last: it says that all is there
            atomic.write_bytes(folder / name, (Path(place) / name).read_bytes())
    print(f"{folder}: {network}; evaluate it with --run={FLAGS.out}")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
