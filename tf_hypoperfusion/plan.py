"""Say how long a study will take on this machine and how much disk it needs, before it begins.

    python -m tf_hypoperfusion.plan --source=ISLES2017_Training.zip --preset=few_patients
    python -m tf_hypoperfusion.plan --patients=100 --preset=paper_tight --disk=/data

A simulated patient is registered and a few steps of training are taken, a minute or so; patients,
epochs and windows give the rest. Early stops make a training shorter. `make real` begins with this.
"""

import shutil
import sys
from pathlib import Path

from absl import flags

from data_tools.runtime import command
from data_tools.runtime.errors import InputError, counted
from data_tools.splits import SUBSETS
from tf_hypoperfusion import config

FLAGS = flags.FlagValues()

command.heading("Patients", FLAGS)
flags.DEFINE_list(
    "source", None, "<PATH,...> As data_tools.import_public takes it; its patients are counted.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "patients", None, "How many patients with truth.", lower_bound=1, flag_values=FLAGS
)
command.heading("Study", FLAGS)
flags.DEFINE_enum(
    "preset", "paper", list(config.PRESETS), "That the folds are trained with.", flag_values=FLAGS
)
command.define_stride(FLAGS, config.TEST_STRIDE, cut="slab of the records")
flags.DEFINE_integer(
    "workers", 1, "Patients preprocessed at once.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_string("disk", ".", "<FOLDER> Where the study will lie.", flag_values=FLAGS)


def main() -> None:
    """Count, measure, print."""
    if (FLAGS.source is None) == (FLAGS.patients is None):
        raise InputError("expected either --source or --patients")
    patients, images_gb = (FLAGS.patients, 0.0) if FLAGS.patients else _counted(FLAGS.source)
    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    from tf_hypoperfusion.model import devices
    from tf_hypoperfusion.training import forecast

    devices.announce()
    configs = config.preset(FLAGS.preset)
    rates = forecast.measure(configs, FLAGS.stride, lambda text: print(text, file=sys.stderr))
    stations = forecast.stations(
        patients, rates, configs, stride=FLAGS.stride, workers=FLAGS.workers
    )
    if images_gb:
        stations.insert(0, forecast.Station("import_public", 0.0, images_gb))
    needed_gb = sum(each.disk_gb for each in stations)
    print(
        f"{counted(patients, 'patient')}, preset {FLAGS.preset}: {SUBSETS} folds of at most "
        f"{counted(configs.training.epochs, 'epoch')}"
    )
    print(
        f"measured here: {rates.patient_s:.0f} s to register a patient, {rates.step_s:.2f} s an "
        f"optimizer step of {counted(configs.training.batch_size, 'slab')}"
    )
    stations.append(forecast.Station("all", sum(each.hours for each in stations), needed_gb))
    for each in stations:
        print(f"  {each.name:14} at most {each.hours:7.2f} hours {each.disk_gb:7.2f} GB")
    free_gb = shutil.disk_usage(_existing(Path(FLAGS.disk))).free / forecast.GB
    print(f"free on the disk of {FLAGS.disk}: {free_gb:.0f} GB")
    if free_gb < needed_gb:
        raise InputError(
            f"--disk={FLAGS.disk}: {free_gb:.1f} GB are free; expected {needed_gb:.1f} GB. Make "
            "room, or choose a folder on another disk"
        )
    if FLAGS.source:
        run = command.line("import-public", source=",".join(FLAGS.source), out="cohort")
    else:
        run = command.line("preprocess", cohort="cohort", out="mni", workers=FLAGS.workers)
    command.next_steps(run=run)


def _counted(given: list[str]) -> tuple[int, float]:
    """Patients with a Tmax map in public data sets, and the GB of the images that are taken."""
    from data_tools.import_public import cohort_import

    return cohort_import.count(given)


def _existing(path: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.is_dir())


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
