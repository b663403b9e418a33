"""Train networks on simulated patients, which are made first, on one GPU through JAX.

    python -m tf_hypoperfusion.train_on_gpu --run=runs/gpu --minutes=60
    python -m tf_hypoperfusion.train_on_gpu --run=runs/gpu --speed    # measures a step

For a machine with a GPU where TensorFlow is not: needs jax (with its plugin for the GPU),
keras 3, numpy, scipy, nibabel, nilearn, absl-py and tqdm. Nothing but the networks is
written: RUN/fold-N with best.keras, config.json and history.csv, as tf_hypoperfusion.train
has them, so predict, export and evaluate (--external) take them. All networks learn from all
patients and differ in their seed; none of the patients is to be tested on, so give an
evaluation another seed.

The time of --minutes counts from the start and holds everything: the patients are simulated
first (and kept in --cache), a step is timed, and the networks share what is left, each with
as many steps as fit. Windows are drawn and changed (--randomisation) on the GPU.
Without a GPU it runs too, slowly, to try it.
"""

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.training import parents, randomisation

# Simulated patients of another seed choose the weights.
VALIDATION_SEED_AFTER = 1_000_000
COHORT = "Simulated acute stroke cohort"
SPEEDS = "speeds.json"
LAYERS = ("auto", "plane", "stock")

FLAGS = flags.FlagValues()
command.heading("What to train", FLAGS)
flags.DEFINE_string("run", "runs/gpu", "<FOLDER> Folder of this run.", flag_values=FLAGS)
flags.DEFINE_integer("networks", 5, "How many, one after the other.", flag_values=FLAGS)
flags.DEFINE_integer("seed", 1, "Seed of patients, weights and changes.", flag_values=FLAGS)

command.heading("Patients", FLAGS)
flags.DEFINE_integer("patients", 600, "To learn from.", flag_values=FLAGS)
flags.DEFINE_integer("validation_patients", 32, "To choose the weights by.", flag_values=FLAGS)
flags.DEFINE_string(
    "looks", "wide,wide,first",
    "<NAMES> What they look like, by turns; see data_tools.simulate.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer("workers", os.cpu_count() or 1, "Processes that simulate.", flag_values=FLAGS)
flags.DEFINE_float(
    "simulate_minutes", None,
    "<MINUTES> Simulate no longer than this, and go on with the patients there are; default: a "
    "third of --minutes.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string(
    "cache", "runs/gpu-cache", "<FOLDER> Keeps simulated patients and compiled functions.",
    flag_values=FLAGS,
)  # fmt: skip

command.heading("Settings", FLAGS)
flags.DEFINE_float("minutes", 10.0, "For everything, from the start.", flag_values=FLAGS)
flags.DEFINE_integer("steps", 0, "Of each network; 0: as many as fit.", flag_values=FLAGS)
flags.DEFINE_string("preset", "paper_tight", "<NAME> Of tf_hypoperfusion.train.", flag_values=FLAGS)
flags.DEFINE_integer("base_filters", 12, "Channels of the first level.", flag_values=FLAGS)
flags.DEFINE_float("dropout", 0.0, "Share of channels dropped, 0 to 1.", flag_values=FLAGS)
flags.DEFINE_bool(
    "presence_flags", False,
    "Tell the network which inputs are given. With --randomisation=wide+inputs.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string(
    "contrast_channels", "none", "<NAME> local, mirror, local+mirror, or none.", flag_values=FLAGS
)
flags.DEFINE_bool("core_output", False, "Learn the core too.", flag_values=FLAGS)
flags.DEFINE_float("core_weight", 0.5, "Weight of the core in the loss.", flag_values=FLAGS)
flags.DEFINE_string(
    "init_from", None,
    "<RUN> Begin with its networks, network k with that of its fold-k; a lower --learning_rate "
    "fits then.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_bool(
    "fixed_moments", None,
    "Keep the moments of normalisation that --init_from brings; default: the preset's.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer("batch_size", 32, "Windows of a step.", flag_values=FLAGS)
flags.DEFINE_integer("epochs", 8, "Validations of each network.", flag_values=FLAGS)
flags.DEFINE_float(
    "learning_rate", 2e-3, "After a warm-up of 100 steps, or a tenth of fewer.", flag_values=FLAGS
)
flags.DEFINE_float(
    "final_learning_rate_ratio", 0.02, "The learning rate decays to this share.", flag_values=FLAGS
)
flags.DEFINE_float("ema_momentum", 0.995, "Of the averaged weights.", flag_values=FLAGS)
flags.DEFINE_string(
    "randomisation", "wide",
    "<NAMES> How windows are changed, as in tf_hypoperfusion.train: light, wide+inputs...",
    flag_values=FLAGS,
)  # fmt: skip

command.heading("Machine", FLAGS)
flags.DEFINE_string("precision", "bfloat16", "<NAME> bfloat16 or float32.", flag_values=FLAGS)
flags.DEFINE_string(
    "layers", "auto",
    "<NAME> plane: convolutions as those of pictures; stock: Keras's; auto: the faster, as --speed "
    "found it in the same --cache, else plane.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_bool("speed", False, "Measure a step of each way, and stop.", flag_values=FLAGS)


# Fields of the configurations that have a flag.
SETTINGS = (
    "seed", "base_filters", "dropout", "batch_size", "epochs", "learning_rate",
    "final_learning_rate_ratio", "ema_momentum", "precision", "randomisation", "presence_flags",
    "contrast_channels", "core_output", "core_weight", "init_from",
    "fixed_moments",
)  # fmt: skip


def main() -> int:
    """Run the command."""
    began = time.monotonic()
    _check()
    configs, changes = settings_of(FLAGS)
    if configs[1].init_from:
        for number in range(FLAGS.networks):
            parents.check(parents.find(configs[1].init_from, number), configs[0])
    until = began + 60 * FLAGS.minutes
    for folder in (FLAGS.run, FLAGS.cache):
        atomic.check_writable(Path(folder))
    train, validation, facts = patients_of(FLAGS)
    print(f"{len(train)} patients, {len(validation)} to validate, "
          f"{time.monotonic() - began:.1f} s", flush=True)  # fmt: skip

    start_jax(FLAGS.cache)
    from tf_hypoperfusion.training.gpu import loop, steps

    on_device = steps.on_device(train.arrays())
    if FLAGS.speed:
        ways = [
            steps.Way(precision, planes)
            for precision, planes in (
                (FLAGS.precision, True), (FLAGS.precision, False), ("float32", True),
            )
        ]  # fmt: skip
        found = {}
        for way, speed in loop.measure_ways(
            ways, *configs, changes, patients=on_device, until=until
        ):
            found[str(way)] = speed
            atomic.write_json(Path(FLAGS.cache) / SPEEDS, found)
        return command.EXIT_OK
    data = loop.Data(
        train=on_device,
        validation=steps.on_device(validation.arrays()),
        source=loop.Source(cohort=COHORT, facts=facts),
    )
    made = steps.Steps(*configs, changes, steps.Way(FLAGS.precision, _planes(steps.Way)))
    best = loop.train_networks(
        Path(FLAGS.run), FLAGS.networks, made, data, until=until, total=FLAGS.steps
    )
    for number, row in enumerate(best):
        print(
            f"network {number}: best validation loss {row['val_composite']:.4f} after "
            f"{row['step']} steps, Dice {row['val_dice']:.3f}: {FLAGS.run}/fold-{number}/best.keras"
        )
    models = ",".join(f"{FLAGS.run}/fold-{number}/best.keras" for number in range(len(best)))
    command.next_steps(
        look_at=f"{FLAGS.run}/fold-0/history.csv",
        run=command.line("export", given=["--name=mine"], model=models),
    )
    return command.EXIT_OK


def _check() -> None:
    """Refuse what cannot be, before anything is computed."""
    for name in ("networks", "patients", "validation_patients", "workers", "minutes"):
        value: Any = FLAGS[name].value
        if not value > 0:
            raise InputError(f"--{name} is {value}; expected more than 0")
    if FLAGS.layers not in LAYERS:
        raise InputError(f"layers is {FLAGS.layers!r}; expected one of {', '.join(LAYERS)}")
    if FLAGS.seed >= VALIDATION_SEED_AFTER:
        raise InputError(f"--seed is {FLAGS.seed}; expected less than {VALIDATION_SEED_AFTER}")
    check_backend()


def check_backend() -> None:
    """Have Keras run on JAX, or say why it does not.

    Raises:
        InputError: no jax is installed, or another backend was asked for.
    """
    if importlib.util.find_spec("jax") is None:
        raise InputError(
            "jax is not installed; expected an environment with the extra jax and keras 3"
        )
    if os.environ.setdefault("KERAS_BACKEND", "jax") != "jax":
        raise InputError("KERAS_BACKEND is set to another backend; expected jax, or none")


def settings_of(
    given: flags.FlagValues,
) -> tuple[tuple[config.ModelConfig, config.TrainingConfig], randomisation.Randomisation]:
    """Network, training and changes of the windows.

    Raises:
        InputError: a value that cannot be.
    """
    values: dict[str, Any] = {name: given[name].value for name in SETTINGS}
    known = {name: value for name, value in values.items() if value is not None}
    configs = config.preset(given.preset, **known)
    if configs[1].precision not in ("bfloat16", "float32"):
        raise InputError(f"precision is {given.precision!r}; expected bfloat16 or float32")
    training = configs[1]
    if training.freeze or training.scales_only or set(training.part_rates.values()) != {1.0}:
        raise InputError(
            f"preset is {given.preset!r}, in which only some of the weights learn; here all "
            "do. Expected another preset, or tf_hypoperfusion.train"
        )
    return configs, randomisation.parse(configs[1].randomisation)


def patients_of(given: flags.FlagValues) -> tuple[Any, Any, dict[str, Any]]:
    """Patients to learn from, to validate by, and what both were made with."""
    from data_tools.simulate.cohort import SIMULATION_VERSION
    from data_tools.simulate.looks import LOOKS
    from tf_hypoperfusion.training.gpu import patients

    looks = given.looks.split(",")
    if unknown := sorted(set(looks) - set(LOOKS)):
        raise InputError(f"--looks has {', '.join(unknown)}; expected some of {', '.join(LOOKS)}")
    minutes = given.simulate_minutes or given.minutes / 3
    folder = Path(given.cache) / "patients"
    other = given.seed + VALIDATION_SEED_AFTER
    began = time.monotonic()
    # First, so that a short time leaves some of both.
    validation = patients.simulated(
        other, range(1, given.validation_patients + 1), folder,
        looks=looks, workers=given.workers, minutes=minutes,
    )  # fmt: skip
    left = minutes - (time.monotonic() - began) / 60
    train = patients.simulated(
        given.seed, range(1, given.patients + 1), folder,
        looks=looks, workers=given.workers, minutes=left,
    )  # fmt: skip
    facts = {
        "version": SIMULATION_VERSION, "seed": given.seed, "patients": len(train), "looks": looks,
        "validation_seed": other, "validation_patients": len(validation),
    }  # fmt: skip
    return train, validation, facts


def start_jax(cache: str) -> None:
    """Keep what is compiled for the next start."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(Path(cache).absolute() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    print(f"on {jax.devices()[0].device_kind} ({jax.default_backend()})", flush=True)


def _planes(way: Any) -> bool:
    """Whether plane layers are taken."""
    if FLAGS.layers != "auto":
        return FLAGS.layers == "plane"
    speeds = atomic.read_json(Path(FLAGS.cache) / SPEEDS)
    plane, stock = (speeds.get(str(way(FLAGS.precision, planes)), 0) for planes in (True, False))
    return plane >= stock


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
