"""Every number of the model and its training, once, with its source.

"Paper" is Yu et al., Radiology 2023;307(1):e220882; "predecessor" is the 2D code its authors
deposited, the best evidence where the paper is silent.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from data_tools.grid import (
    FRAME_SHAPE,
    SLAB_SHAPE,
    SLAB_STRIDE,
    TEMPLATE_BRAIN_X,
    TEMPLATE_BRAIN_Y,
    window_about_brain,
)
from data_tools.runtime.errors import InputError

RESEARCH_NOTICE = "Research use only. Not a medical device; not for clinical decisions."

# Paper, Performance Evaluation: probability of 0.5 and more is hypoperfused.
PROBABILITY_THRESHOLD = 0.5
# Likewise for the core, in networks that answer with it.
CORE_THRESHOLD = 0.5
# Whose core decides where neither a flag nor a mask says it: "rule" or "learnt".
CORE_BY = "rule"
# Paper, Figure 1: the channels of the network's image, in this order.
CHANNELS = ("dwi", "adc", "adc_mask", "side")
SLAB = (*SLAB_SHAPE, len(CHANNELS))
# Paper, Results: median Dice and share of right decisions, without a visible core and with one.
NO_CORE_MEDIAN_DICE, NO_CORE_ACCURACY = 0.25, 0.68
CORE_MEDIAN_DICE, CORE_ACCURACY = 0.65, 0.90
# Paper, Performance Evaluation: Dice above 0.5 is good agreement.
GOOD_DICE = 0.5
# Paper, Statistical Analysis: seven tests at once, Bonferroni.
SIGNIFICANT_P = 0.007
# Surfaces this near are one: two voxels, somewhat less than a slice of a diffusion image.
SURFACE_TOLERANCE_MM = 4.0
# Slices from one window to the next at test time.
TEST_STRIDE = SLAB_STRIDE
# predict --fast: the widest stride whose cost, with its interval, is under 0.01 Dice with the truth
# (BUILD_NOTES, Computing less).
FAST_STRIDE = 8
FAST_PRECISION = "bfloat16"


# No training has more epochs, slabs or weight than this; what does is a slip of the keyboard.
MOST = 1_000_000
FRAME_PATTERN = "[1-9][0-9]{0,2}x[1-9][0-9]{0,2}"
CONTRAST_CHANNELS = ("none", "local", "mirror", "local+mirror")
# Of the network, that may learn at rates of their own.
PARTS = ("encoder", "bottleneck", "decoder", "output")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def _require(condition: bool, name: str, value: Any, expected: str) -> None:
    if not condition:
        shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}..."
        raise InputError(f"{name} is {shown}; expected {expected}")


# Where the default of a setting comes from, as docs/reference/settings.md shows it.
PAPER, PREDECESSOR = "the paper", "its authors' earlier 2D code; the paper is silent"
OURS, BEYOND = "ours; the paper is silent", "ours, beyond the paper; off"
_SOURCE = "source"


def _from(source: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={_SOURCE: source})


_paper, _predecessor, _ours, _beyond = (
    functools.partial(_from, source) for source in (PAPER, PREDECESSOR, OURS, BEYOND)
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of the attention U-Net.

    Attributes:
        base_filters: channels of the first level, doubled at each pooling (32-64-128,
            bottleneck 256).
        poolings: 2 x 2 x 2 max-poolings.
        dropout: SpatialDropout after each pooling and each decoder block.
        normalisation: ``batch`` before each convolution, ``group`` or ``none``.
        batch_norm_momentum: of the moving moments used at test time; 0.99 (Keras's default) needs
            hundreds of steps to settle, so short runs take less.
        attention_gates: False passes the skip connections ungated.
        nihss_fusion: False leaves the NIHSS unused (the input stays).
        side_channel: False leaves the image's channel of the side unused (the input stays).
        presence_flags: tell the bottleneck which of DWI, ADC, side and NIHSS are given.
        contrast_channels: channels beside the paper's that no brightness varying over the head
            moves: ``local`` (DWI and ADC over their mean within 9 cm), ``mirror`` (over the
            other side), ``local+mirror``, or ``none``.
        core_output: answer with the probability of core too.
        frame: columns x rows that are computed of the padded 128 x 128, about the template's
            brain (:func:`data_tools.grid.window_about_brain`); the margin's probability is 0. The
            paper computes the whole; ``80x104`` is half the work.
    """

    base_filters: int = _predecessor(32)
    poolings: int = _predecessor(3)
    dropout: float = _predecessor(0.25)
    normalisation: str = _predecessor("batch")
    batch_norm_momentum: float = _ours(0.99)
    attention_gates: bool = _paper(True)
    nihss_fusion: bool = _paper(True)
    side_channel: bool = _paper(True)
    presence_flags: bool = _beyond(False)
    contrast_channels: str = _beyond("none")
    core_output: bool = _beyond(False)
    frame: str = _paper("128x128")

    def __post_init__(self) -> None:
        _require(1 <= self.base_filters <= 512, "base_filters", self.base_filters, "1 to 512")
        _require(1 <= self.poolings <= 4, "poolings", self.poolings, "1 to 4 (16 slices halve)")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "0 up to, not including, 1")
        momentum = self.batch_norm_momentum
        _require(0 <= momentum < 1, "batch_norm_momentum", momentum, "0 up to, not including, 1")
        _require(
            self.normalisation in ("batch", "group", "none"),
            "normalisation",
            self.normalisation,
            "batch, group or none",
        )
        _require(
            self.contrast_channels in CONTRAST_CHANNELS,
            "contrast_channels",
            self.contrast_channels,
            ", ".join(CONTRAST_CHANNELS),
        )
        _require(
            self.nihss_fusion or not self.presence_flags,
            "presence_flags",
            self.presence_flags,
            "False without NIHSS, beside which they enter the network",
        )
        self._check_frame()

    def _check_frame(self) -> None:
        text, halves = self.frame, 2**self.poolings
        _require(
            re.fullmatch(FRAME_PATTERN, text) is not None,
            "frame", text, "columns x rows, as in 80x104",
        )  # fmt: skip
        least = [last - first + 1 for first, last in (TEMPLATE_BRAIN_X, TEMPLATE_BRAIN_Y)]
        sizes = list(zip(self.frame_shape, least, FRAME_SHAPE, strict=True))
        _require(
            all(low <= size <= high for size, low, high in sizes),
            "frame", text,
            f"{least[0]}x{least[1]}, which just holds the template's brain, to "
            f"{FRAME_SHAPE[0]}x{FRAME_SHAPE[1]}",
        )  # fmt: skip
        fitting = [_next_multiple(size, halves) for size in self.frame_shape]
        _require(
            list(self.frame_shape) == fitting,
            "frame", text,
            f"multiples of {halves}, which halve {self.poolings} times: "
            f"{fitting[0]}x{fitting[1]}",
        )  # fmt: skip

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Columns and rows of the frame."""
        return parse_frame(self.frame)

    @property
    def frame_margin(self) -> tuple[tuple[int, int], ...]:
        """Columns, rows and slices before and after the frame, as Keras's layers take them."""
        window = window_about_brain(self.frame_shape)
        sides = [(w.start, size - w.stop) for w, size in zip(window, FRAME_SHAPE, strict=True)]
        return (*sides, (0, 0))


def _next_multiple(size: int, of: int) -> int:
    return -(-size // of) * of


def parse_frame(text: str) -> tuple[int, int]:
    """Columns and rows of a frame: ``80x104`` -> (80, 104)."""
    columns, rows = text.split("x")
    return int(columns), int(rows)


# Runs of earlier versions have a field ``crop_margin`` in place of ``frame``.
_FRAME_OF_CROP_MARGIN = {True: "96x112", False: "128x128"}
# And what there was no word for.
_MODEL_BEFORE = {"presence_flags": False, "contrast_channels": "none", "core_output": False}
_TRAINING_BEFORE = {"core_weight": 0.5, "init_from": "", "freeze": False, "fixed_moments": False}
_TRAINING_BEFORE |= {"scales_only": False}
_TRAINING_BEFORE |= {f"{part}_rate": 1.0 for part in PARTS}


def model_settings(values: Any) -> dict[str, Any]:
    """The settings of a network as a run wrote them, under the names of today.

    Args:
        values: ``model`` of a ``config.json`` or of an entry in a model card; of anything else than
            an object there is nothing to read.
    """
    settings = dict(values) if isinstance(values, Mapping) else {}
    cropped = settings.get("crop_margin")
    if "frame" not in settings and isinstance(cropped, bool):
        del settings["crop_margin"]
        settings["frame"] = _FRAME_OF_CROP_MARGIN[cropped]
    return _MODEL_BEFORE | settings if settings else {}


def model_config(values: Any) -> ModelConfig | None:
    """The network of settings that a run or a model card has; None if they are not whole.

    Args:
        values: as :func:`model_settings` takes them.
    """
    settings = model_settings(values)
    if set(settings) != {field.name for field in dataclasses.fields(ModelConfig)}:
        return None
    try:
        return ModelConfig(**settings)
    except (TypeError, InputError):  # of another type, or out of range
        return None


# Runs of earlier versions have a switch ``augment`` in place of ``randomisation``.
_RANDOMISATION_OF_AUGMENT = {True: "place+contrast+noise", False: "none"}


def training_settings(values: Any) -> dict[str, Any]:
    """As :func:`model_settings`, of ``training`` of a ``config.json``.

    >>> training_settings({"augment": False})["randomisation"]
    'none'
    """
    settings = dict(values) if isinstance(values, Mapping) else {}
    augment = settings.get("augment")
    if "randomisation" not in settings and isinstance(augment, bool):
        del settings["augment"]
        settings["randomisation"] = _RANDOMISATION_OF_AUGMENT[augment]
    return _TRAINING_BEFORE | settings if settings else {}


def common_frame(networks: Iterable[Any]) -> str | None:
    """The frame that lies in the frames of several networks; None if one of them is not known.

    Args:
        networks: :func:`model_settings` of each takes it.

    >>> common_frame([{"frame": "80x128"}, {"crop_margin": True}])
    '80x112'
    """
    frames = [model_settings(values).get("frame") for values in networks]
    known = [f for f in frames if isinstance(f, str) and re.fullmatch(FRAME_PATTERN, f)]
    if not known or len(known) < len(frames):
        return None
    columns, rows = (min(sizes) for sizes in zip(*map(parse_frame, known), strict=True))
    return f"{columns}x{rows}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a fold is trained. Whose each default is stands with it.

    Attributes:
        epochs: passes over the slabs.
        batch_size: slabs of a step over all devices.
        learning_rate: at the start.
        final_learning_rate_ratio: the exponential decay ends at this share of the start.
        bce_weight: of the cross entropy in the loss.
        dice_weight: of the Dice loss.
        volume_weight: of the relative volume error.
        core_weight: of cross entropy and Dice loss of the core, in networks that answer with it.
        mirror: left-right mirror of half the training slabs.
        seed: of weights, order, mirror, random changes and dropout.
        precision: of the network's arithmetic, ``float32``, ``bfloat16``, ``float16``, or ``auto``:
            bfloat16 where the machine has it. Weights and loss are float32 in all of them.
        micro_batch: slabs that one device holds at once; the gradients of a batch's micro-batches
            are added up. 0: as many as the memory allows.
        optimizer: a Keras or tensorflow-addons name, perhaps with options:
            ``sgd(momentum=0.9, nesterov=True)``.
        warmup_epochs: the learning rate rises linearly over so many epochs first.
        ema_momentum: validate and keep the exponential moving average of the weights; 0: the
            weights themselves.
        patience: stop after so many epochs without a lower validation loss; 0: never.
        init_from: a trained network's file to begin with, or a run's folder; empty: drawn weights.
        freeze: train only the layers that the network of ``init_from`` does not have.
        fixed_moments: normalise by the moments that ``init_from`` brings, as at test time, and
            leave them as they are; no dropout.
        scales_only: train only the scales and offsets of normalisation, and the layers that answer:
            a thousandth of the weights.
        encoder_rate: learning rate of the layers before the bottleneck, as a share of
            ``learning_rate``; 0 leaves them, their moments too, as ``init_from`` has them.
        bottleneck_rate: likewise.
        decoder_rate: likewise; the attention gates belong to it.
        output_rate: of the layers that answer, likewise.
        randomisation: how training slabs are changed at random; names of
            ``training/randomisation.py``, joined by ``+``.
    """

    epochs: int = _paper(80)
    batch_size: int = _paper(32)
    learning_rate: float = _paper(5e-4)
    final_learning_rate_ratio: float = _predecessor(0.68)
    bce_weight: float = _predecessor(1.0)
    dice_weight: float = _predecessor(0.5)
    volume_weight: float = _predecessor(0.25)
    core_weight: float = _beyond(0.5)
    mirror: bool = _predecessor(True)
    seed: int = _ours(1)
    precision: str = _ours("auto")
    micro_batch: int = _ours(0)
    optimizer: str = _paper("adam")
    warmup_epochs: int = _beyond(0)
    ema_momentum: float = _beyond(0.0)
    patience: int = _beyond(0)
    init_from: str = _beyond("")
    freeze: bool = _beyond(False)
    fixed_moments: bool = _beyond(False)
    scales_only: bool = _beyond(False)
    encoder_rate: float = _beyond(1.0)
    bottleneck_rate: float = _beyond(1.0)
    decoder_rate: float = _beyond(1.0)
    output_rate: float = _beyond(1.0)
    randomisation: str = _beyond("none")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            _require(1 <= value <= MOST, name, value, "1 or more, and not beyond a million")
        _require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "0 to 1")
        ratio = self.final_learning_rate_ratio
        _require(0 < ratio <= 1, "final_learning_rate_ratio", ratio, "above 0, at most 1")
        weights = ("bce_weight", "dice_weight", "volume_weight")
        for name in (*weights, "core_weight", "micro_batch", "patience"):
            value = getattr(self, name)
            _require(0 <= value <= MOST, name, value, "0 or more, and finite")
        _require(
            any(getattr(self, name) for name in weights), "loss", "0", "one weight above 0 at least"
        )
        _require(self.precision in PRECISIONS, "precision", self.precision, ", ".join(PRECISIONS))
        momentum = self.ema_momentum
        _require(0 <= momentum < 1, "ema_momentum", momentum, "0 up to, not including, 1")
        _require(
            0 <= self.warmup_epochs < self.epochs,
            "warmup_epochs",
            self.warmup_epochs,
            f"0 or more, and fewer than the {self.epochs} epochs: where a preset warms up, "
            "give both --epochs and --warmup_epochs",
        )
        if self.micro_batch:
            _require(
                self.batch_size % self.micro_batch == 0,
                "micro_batch",
                self.micro_batch,
                f"a divisor of the batch of {self.batch_size}",
            )
        for name in ("freeze", "fixed_moments", "scales_only"):
            _require(
                not getattr(self, name) or bool(self.init_from), name, "true",
                "init_from with it, the network that is kept",
            )  # fmt: skip
        for part, rate in self.part_rates.items():
            name = f"{part}_rate"
            _require(0 <= rate <= 1, name, rate, "0 to 1, a share of learning_rate")
            _require(
                rate > 0 or bool(self.init_from), name, rate,
                "init_from with it: only what is trained already can be frozen",
            )  # fmt: skip
        _require(
            any(self.part_rates.values()), "the rate of every part", 0,
            "one of them above 0, or nothing learns",
        )  # fmt: skip
        _require(0 <= self.seed < 2**31, "seed", self.seed, "0 to 2**31 - 1")

    @property
    def part_rates(self) -> dict[str, float]:
        """Each part's share of the learning rate."""
        return {part: getattr(self, f"{part}_rate") for part in PARTS}

    @property
    def keeps_moments(self) -> bool:
        """Whether normalisation keeps the moments it begins with, as a frozen network's does."""
        return self.freeze or self.fixed_moments


class Configs(NamedTuple):
    """The network, and how it is trained."""

    model: ModelConfig
    training: TrainingConfig


def sources() -> dict[str, str]:
    """Whose the default of each setting is: the paper's, its predecessor's or ours.

    >>> sources()["epochs"], sources()["dropout"]
    ('the paper', "its authors' earlier 2D code; the paper is silent")
    """
    return {
        field.name: field.metadata[_SOURCE]
        for kind in (ModelConfig, TrainingConfig)
        for field in dataclasses.fields(kind)
    }


# Holds a brain on the grid, but for 2 mL of the rim in 1 of 10 (BUILD_NOTES.md); halves three
# times (80x112 four times).
TIGHT_FRAME = "80x104"

PRESETS = {
    # As published; where the paper is silent, see docs/reference/settings.md. Not trained to its
    # end here: 0.85 slabs/s on two cores that multiply bfloat16, where "demonstration" has 9.6
    # (RESULTS.md, BUILD_NOTES.md).
    "paper": Configs(ModelConfig(), TrainingConfig()),
    # The paper but for the margin: half the work.
    "paper_tight": Configs(ModelConfig(frame=TIGHT_FRAME), TrainingConfig()),
    # Learns something on two CPU cores in minutes: 208 to 306 s a fold of 36 SIMULATED patients,
    # test Dice 0.57 (0.28 to 0.64), AUC 0.83, target mismatch right in 36 of 60, all at 96x112
    # (BUILD_NOTES.md).
    "small": Configs(
        ModelConfig(base_filters=8, dropout=0.1, batch_norm_momentum=0.9, frame=TIGHT_FRAME),
        TrainingConfig(epochs=6, batch_size=8, learning_rate=3e-3),
    ),
    # As the five folds of RESULTS.md but for their frame, 96x112. Chosen on validation patients:
    # small, without dropout, with a moving average and a learning rate that falls to a fifth. At
    # 96x112, 26 minutes a fold of 247 SIMULATED patients on one core; test Dice 0.67 (0.55 to
    # 0.76), AUC 0.96, volumes off by -3 mL (-24 to 11), target mismatch right in 338 of 413
    # (RESULTS.md).
    "demonstration": Configs(
        ModelConfig(base_filters=8, dropout=0.0, batch_norm_momentum=0.9, frame=TIGHT_FRAME),
        TrainingConfig(
            epochs=4,
            batch_size=8,
            learning_rate=3e-3,
            final_learning_rate_ratio=0.2,
            ema_momentum=0.99,
        ),
    ),
    # A lab's own patients, 10 to 100 of them, after the demonstration model's SIMULATED ones. The
    # network is that of whatever --init_from names; here it is the demonstration model's. With a
    # rate of 3e-4 ten patients made it worse, at their own site too (docs/how-to/few-patients.md).
    "few_patients": Configs(
        ModelConfig(
            base_filters=12,
            dropout=0.0,
            presence_flags=True,
            core_output=True,
            frame=TIGHT_FRAME,
        ),
        TrainingConfig(
            epochs=12,
            batch_size=4,
            learning_rate=5e-5,
            final_learning_rate_ratio=0.1,
            warmup_epochs=1,
            ema_momentum=0.99,
            patience=4,
            init_from="demo",
            fixed_moments=True,
            randomisation="light+inputs",
        ),
    ),
    # For tests of the machinery: an epoch of 50 SIMULATED patients takes 35 s at 96x112
    # (BUILD_NOTES.md). It learns nothing worth a figure.
    "tiny": Configs(
        ModelConfig(
            base_filters=2, poolings=2, dropout=0.1, batch_norm_momentum=0.9, frame=TIGHT_FRAME
        ),
        TrainingConfig(epochs=2, batch_size=4, learning_rate=5e-3, precision="float32"),
    ),
}


def preset(name: str, **changes: Any) -> Configs:
    """A preset with single values changed.

    Args:
        name: one of :data:`PRESETS`.
        **changes: fields of either config; None keeps the preset's value.

    Raises:
        InputError: unknown preset, or a value out of range.
        TypeError: a field that neither config has.
    """
    if name not in PRESETS:
        raise InputError(f"preset is {name!r}; expected one of {', '.join(PRESETS)}")
    given = {key: value for key, value in changes.items() if value is not None}
    model, training = PRESETS[name]
    model_fields = {field.name for field in dataclasses.fields(model)}
    model = dataclasses.replace(model, **{k: v for k, v in given.items() if k in model_fields})
    rest = {k: v for k, v in given.items() if k not in model_fields}
    return Configs(model, dataclasses.replace(training, **rest))


def from_json(settings: dict[str, Any], where: str) -> Configs:
    """The configs of a run's ``config.json``.

    Args:
        settings: its content.
        where: the file, for messages.

    Raises:
        InputError: a part or a value is missing, unknown or out of range.
    """

    def read(part: str, kind: Any, named_today: Callable[[Any], dict[str, Any]]) -> Any:
        values = settings.get(part)
        if not isinstance(values, dict):
            raise InputError(f"{where}: has no '{part}'; expected a config.json of a training run")
        values = named_today(values)
        known = {field.name: field.type for field in dataclasses.fields(kind)}
        wrong = sorted(set(values) ^ set(known))
        if wrong:
            raise InputError(
                f"{where}: {part} has unknown or missing values ({', '.join(wrong)}); expected "
                f"{', '.join(known)}"
            )
        for name, value in values.items():
            default = getattr(kind, name)
            number = isinstance(default, float) and type(value) is int
            if type(value) is not type(default) and not number:
                raise InputError(
                    f"{where}: {part}.{name} is {value!r}; expected {type(default).__name__}"
                )
        return kind(**values)

    return Configs(
        read("model", ModelConfig, model_settings),
        read("training", TrainingConfig, training_settings),
    )
