"""A patient's result: what is known once the images were measured; ``result.json`` on disk.

It is built once, from measurements, and then only read: by the terminal, the page, the DICOM
objects and the file. ``docs/reference/result.schema.json`` is made from these types.
"""

import dataclasses
import inspect
from pathlib import Path
from typing import Any, Literal

from data_tools.dicom.origin import Origin
from data_tools.grid import SIDES
from data_tools.labels import TruthFrom
from data_tools.quality import Registration
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference.model_files import MAY_BE_ABSENT, ModelInfo
from tf_hypoperfusion.inference.stroke_side import StrokeSide

FILE = "result.json"
Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criterion:
    """One criterion of DEFUSE 3.

    Attributes:
        value: of this patient; a ratio, or mL; None where no core is known.
        required: in words: the comparison and its bound.
        met: whether the value is as required; None where no core is known.
    """

    value: float | None
    required: str
    met: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Defuse3:
    """Target mismatch by DEFUSE 3.

    Attributes:
        ratio: hypoperfusion / core, at most 20; 20 also where no core is visible.
        difference_ml: hypoperfusion - core.
        core_ml: the core.
        target_mismatch: all three criteria are met by the volume as it is, however unsure; what is
            to be said of the patient is ``answer``. None where no core is known.
    """

    ratio: Criterion
    difference_ml: Criterion
    core_ml: Criterion
    target_mismatch: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """How far several answers about the patient agree.

    Attributes:
        kind: the answers of several networks, or of one about the image and its mirror image.
        opinions: how many answers there are.
        hypoperfusion_ml: by each answer.
        range_ml: the smallest and the largest of them.
        decision_holds_in: in how many of the answers target mismatch is the same as reported; None
            where no core is known.
    """

    kind: Literal["models", "mirror"]
    opinions: int
    hypoperfusion_ml: tuple[float, ...]
    range_ml: tuple[float, float]
    decision_holds_in: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Target mismatch, as far as it can be said; see :mod:`tf_hypoperfusion.inference.calibration`.

    All but the first two are None where the model was not calibrated: it then says yes or no, and
    how sure that is nobody knows.

    Attributes:
        target_mismatch: yes, no, or unsure: perfusion imaging would tell.
        reasons: why it is unsure; none otherwise.
        interval_ml: of the true hypoperfusion, on the DWI's grid.
        coverage: share of the patients of the calibration's kind whose interval holds the truth.
        mismatch_with_errors_of: with the errors of how large a share of the calibration's patients
            it would be a target mismatch; None also where no core is known.
        calibrated_on: which patients, and who had answered about them.
    """

    target_mismatch: Literal["yes", "no", "unsure"]
    reasons: tuple[str, ...]
    interval_ml: tuple[float, float] | None
    coverage: float | None
    mismatch_with_errors_of: float | None
    calibrated_on: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seconds:
    """How long each step took.

    Attributes:
        read: files to checked images.
        load_model: models, or the server found; near 0 where they load while the images are read
            and registered.
        register: to the template, with the core on both grids.
        network: every answer.
        way_back: probabilities to the DWI's grid.
        write: volumes and overview picture.
        report: page, and what was asked for besides.
        total: all of these.
    """

    read: float
    load_model: float
    register: float
    network: float
    way_back: float
    write: float = 0.0
    report: float = 0.0
    total: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputImages:
    """The images that were read.

    Attributes:
        dwi: file, or folder of DICOM files; None without a DWI.
        adc: file; None if it came with the DWI, or there is none.
        adc_unit: unit that was found in the file; None without an ADC map.
        b_value_s_per_mm2: of the DWI; None if no file says it.
        notes: what was done to the files.
        b0: file of the b = 0 image; None where it has none of its own.
        core: file of a given core, or that it was said to be none; None where none was given.
        overrides: what a person said of the images, by the names of the flags.
        origin: of DICOM files: scanner, time and series, and no name; None of others.
    """

    dwi: str | None
    adc: str | None
    adc_unit: str | None
    b_value_s_per_mm2: float | None
    notes: tuple[str, ...]
    b0: str | None
    core: str | None
    overrides: dict[str, str | float | bool]
    origin: Origin | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The prediction beside what perfusion imaging showed, where the perfusion scan covers brain.

    Attributes:
        source: the Tmax map, a mask of hypoperfusion that a person edited, or one that is the whole
            truth; the core that decides is added to the first two.
        threshold_s: from which on Tmax counts; None where a mask does.
        tmax: file; None where there is none.
        mask: file; None where there is none.
        truth_ml: measured, on the DWI's grid.
        predicted_ml: predicted, in the same part of the brain.
        dice: of both; None where nothing was measured.
        covered_share: of the brain, in the perfusion scan.
        target_mismatch: by the measured volume and the core that decides; None where no core is
            known.
    """

    source: TruthFrom
    threshold_s: float | None
    tmax: str | None
    mask: str | None
    truth_ml: float
    predicted_ml: float
    dice: float | None
    covered_share: float
    target_mismatch: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replaced:
    """What was told before of the same study, which this takes the place of.

    Attributes:
        answered: when, as ``2026-01-31 12:00``, in the time of the machine.
        why: more images came, or a person said more of the patient.
        was: an answer, or that the study cannot be used.
    """

    answered: str
    why: Literal["images", "person"]
    was: Literal["answer", "refusal"] = "answer"

    @property
    def words(self) -> str:
        """For people."""
        reason = {
            "images": "more images came",
            "person": "a person gave or corrected side, NIHSS, age or series",
        }[self.why]
        what = {
            "answer": f"the answer of {self.answered}",
            "refusal": f"the report of {self.answered} that the study cannot be used",
        }[self.was]
        return f"This replaces {what}: {reason}."


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientResult:
    """What ``result.json`` holds; its fields in the order of the file.

    Attributes:
        notice: that this is for research only.
        patient: name in the result.
        given: side, NIHSS and age as they were given.
        side: of the stroke: the one that was given, or the one that was found where it is unknown.
        side_found: nobody gave the side; both were asked about, and the larger answer was taken.
        side_share: of the volume of both answers, in the larger one; None where the side was given,
            or nothing is predicted.
        missing: the image that was not there, DWI or ADC; None if both were.
        hypoperfusion_ml: predicted, on the DWI's grid.
        core_ml: of the core that decides, on the DWI's grid; None where none is known, as in the
            rest of the result.
        hypoperfusion_mni_ml: the same on the MNI grid, in mL of the patient.
        core_mni_ml: the core on the MNI grid, in mL of the patient.
        core_by: whose core that is: the rule's, the networks', or a given mask; None if unknown.
        core_rule_ml: ADC of at most 620e-6 mm2/s and bright on DWI, on the DWI's grid; None without
            one of these images.
        core_learnt_ml: by the networks, on the DWI's grid; None from networks that have no core.
        mismatch_ratio: hypoperfusion / core, at most 20.
        mismatch_ml: hypoperfusion - core.
        defuse3: target mismatch, criterion by criterion, by the volume as it is.
        answer: target mismatch with what is known of the volume's error.
        dawn: clinical-core mismatch of DAWN; None if age, NIHSS or core is unknown.
        comparison: with what perfusion imaging showed; None where it was not given.
        uncertainty: how far several answers agree; None if there is one only.
        warnings: what a person must look at.
        replaces: an earlier answer that was sent; None if this is the first.
        registration: the fit to the template and the images' geometry.
        probability_threshold: from which on a voxel counts as hypoperfused.
        seconds: how long each step took.
        stride_slices: slices from one window to the next; None if only the server knows.
        fast: less was computed than usual, as ``predict --fast`` asks for.
        input: the images.
        models: those that answered.
        fingerprint: of all that the result depends on; None if the result is not to be kept.
        software: versions; None where a package is not installed.
    """

    notice: str
    patient: str
    given: ClinicalFacts
    side: str
    side_found: bool
    side_share: float | None
    missing: Literal["DWI", "ADC"] | None
    hypoperfusion_ml: float
    core_ml: float | None
    hypoperfusion_mni_ml: float
    core_mni_ml: float | None
    core_by: Literal["rule", "learnt", "given"] | None
    core_rule_ml: float | None
    core_learnt_ml: float | None
    mismatch_ratio: float | None
    mismatch_ml: float | None
    defuse3: Defuse3
    answer: Answer
    dawn: bool | None
    comparison: Comparison | None
    uncertainty: Uncertainty | None
    warnings: tuple[str, ...]
    registration: Registration
    probability_threshold: float
    seconds: Seconds
    stride_slices: int | None
    fast: bool
    input: InputImages
    models: tuple[ModelInfo, ...]
    fingerprint: str | None
    software: dict[str, str | None]
    replaces: Replaced | None = None

    @property
    def simulated(self) -> bool:
        """Whether a model that answered was trained on simulated patients."""
        return any(model.simulated for model in self.models)

    @property
    def side_words(self) -> str:
        """The side for people, and whence it is known."""
        return StrokeSide(side=self.side, found=self.side_found, share=self.side_share).words

    @property
    def shortcut(self) -> str:
        """What was done to compute less, in words; empty if nothing was."""
        if not self.fast:
            return ""
        known = [model.precision for model in self.models if model.precision]
        precisions = ", ".join(dict.fromkeys(known))
        return f"computed with --fast: windows every {self.stride_slices} slices, {precisions}"

    def to_json(self) -> Json:
        """Plain JSON types, in the order of the fields."""
        return dataclasses.asdict(self) | {"models": [model.to_json() for model in self.models]}


def read_result(out: str | Path) -> PatientResult | None:
    """The result in a folder; None where there is none, or one of another version.

    Args:
        out: the patient's folder.
    """
    import pydantic

    content = atomic.read_json(Path(out) / FILE)
    try:
        return _adapter().validate_python(content)
    except (pydantic.ValidationError, InputError):
        return None


def schema() -> Json:
    """The JSON Schema of ``result.json``, made from these types and their docstrings."""
    made = _adapter().json_schema()
    types = {made["title"]: made, **made["$defs"]}
    for each in (
        PatientResult, Answer, ClinicalFacts, Comparison, Criterion, Defuse3, InputImages,
        ModelInfo, Origin, Registration, Replaced, Seconds, Uncertainty,
    ):  # fmt: skip
        described = types[each.__name__]
        # Python 3.13 takes the indentation away, and those before it do not.
        words = inspect.cleandoc(each.__doc__ or "").split("Attributes:")
        described["description"] = " ".join(words[0].split())
        for name, text in _entries(words[1]).items():
            described["properties"][name]["description"] = text
        described["required"] = [n for n in described["properties"] if n not in MAY_BE_ABSENT]
    for name in ("ClinicalFacts", made["title"]):
        types[name]["properties"]["side"]["enum"] = list(SIDES)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "result.json of tf_hypoperfusion",
    }
    return head | {key: value for key, value in made.items() if key != "title"}


def _adapter() -> Any:
    import pydantic

    return pydantic.TypeAdapter(PatientResult)


def _entries(text: str) -> dict[str, str]:
    """Name -> words, of an ``Attributes:`` section."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 4 and ":" in line:
            name, _, line = line.strip().partition(":")
            found[name] = ""
        if name and line.strip():
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
