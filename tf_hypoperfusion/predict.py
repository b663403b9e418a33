"""Predict the hypoperfused region of one patient from DWI and ADC, and the target mismatch.

    python -m tf_hypoperfusion.predict --model=runs/demo/fold-0/best.keras \\
        --dwi=dwi.nii.gz --adc=adc.nii.gz --nihss=14 --side=left --age=66 --out=result

Writes, on the DWI's own grid, probability.nii.gz, hypoperfusion_mask.nii.gz and core_mask.nii.gz,
and result.json and overview.png. Several models (--model=A,B,C) are averaged.

--side is the side of the brain lesion (right for weak left limbs). DWI is the b = 1000 trace
image; ADC may be in mm2/s, 1e-3 or 1e-6 mm2/s (detected and reported).

Research use only. Not a medical device; not for clinical decisions.
"""

import sys
import time
from pathlib import Path

from absl import flags

from data_tools import command

FLAGS = flags.FlagValues()
flags.DEFINE_list(
    "model",
    None,
    "best.keras file(s) or SavedModel folder(s), comma-separated.",
    required=True,
    flag_values=FLAGS,
)
flags.DEFINE_string("dwi", None, "b = 1000 trace image, NIfTI.", required=True, flag_values=FLAGS)
flags.DEFINE_string(
    "adc", None, "ADC map on the DWI's grid, NIfTI.", required=True, flag_values=FLAGS
)
flags.DEFINE_string("nihss", None, "0 to 42, or n/a.", required=True, flag_values=FLAGS)
flags.DEFINE_string(
    "side", None, "left, right or bilateral: of the brain lesion.", required=True, flag_values=FLAGS
)
flags.DEFINE_float("age", None, "Years; without it DAWN is not classed.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "Folder for the result.", required=True, flag_values=FLAGS)
flags.DEFINE_string(
    "participant", None, "Name in the result; default: the DWI's file name.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "stride",
    None,
    "Slices from one window to the next, 1 to 16; default 4.",
    lower_bound=1,
    upper_bound=16,
    flag_values=FLAGS,
)


def parse_nihss(text: str) -> int | None:
    """``n/a`` -> None, digits -> int.

    Raises:
        InputError: for anything else.
    """
    from data_tools.errors import InputError

    if text.strip().lower() == "n/a":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"NIHSS is {text!r}; expected a whole number, 0 to 42, or n/a") from error


def main() -> int:
    """Run the command."""
    from data_tools import atomic
    from data_tools.errors import InputError
    from data_tools.patient import load_native
    from tf_hypoperfusion import config, prediction, predictors, provenance, sliding_window

    began = time.monotonic()
    given = prediction.Clinical(FLAGS.side, parse_nihss(FLAGS.nihss), FLAGS.age)
    if not FLAGS.model or not all(FLAGS.model):
        raise InputError("--model holds an empty name; expected --model=A or --model=A,B,C")
    models = [predictors.describe(path) for path in FLAGS.model]
    if Path(FLAGS.out).is_file():
        raise InputError(f"--out {FLAGS.out} is a file; expected a folder to write to")
    native = load_native(FLAGS.dwi, FLAGS.adc)
    atomic.check_writable(FLAGS.out)
    read = time.monotonic()
    _say(f"read {FLAGS.dwi} and {FLAGS.adc} (ADC in {native.adc_unit})")
    predictor = sliding_window.average([predictors.load_predictor(m["path"]) for m in models])
    loaded = time.monotonic()
    _say(f"loaded {len(models)} model(s); registering and predicting, about half a minute")
    done = prediction.predict_patient(
        native,
        given,
        predictor,
        FLAGS.stride or config.TEST_STRIDE,
        FLAGS.participant or Path(FLAGS.dwi).name.split(".")[0],
    )
    result = done.result
    if any(m["cohort"] is None for m in models):
        result["warnings"].insert(
            0,
            "nothing is known of what the model was trained on (no config.json or "
            "model_card.json beside it); it may have been simulated patients",
        )
    simulated = [m for m in models if "simulated" in (m["cohort"] or "").lower()]
    if simulated:
        result["warnings"].insert(
            0,
            "the model was trained on SIMULATED patients only; its result on a real patient "
            "means nothing",
        )
    result["input"] = {"dwi": FLAGS.dwi, "adc": FLAGS.adc, "adc_unit": native.adc_unit}
    result["models"] = models
    result["software"] = provenance.software()
    result["seconds"] = {
        "read": round(read - began, 3),
        "load_model": round(loaded - read, 3),
        **result["seconds"],
    }
    prediction.write_prediction(done, FLAGS.out)
    for warning in result["warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)
    print(summary(result, FLAGS.out))
    return command.EXIT_OK


def summary(result: dict, out: str) -> str:
    """The result as a person reads it in a terminal."""
    criteria = result["defuse3"]
    lines = [
        f"hypoperfusion {result['hypoperfusion_ml']:.1f} mL, core {result['core_ml']:.1f} mL, "
        f"mismatch {result['mismatch_ml']:.1f} mL, ratio {result['mismatch_ratio']:.1f}",
        "target mismatch (DEFUSE 3): " + ("YES" if criteria["target_mismatch"] else "NO"),
    ]
    for name in ("ratio", "difference_ml", "core_ml"):
        criterion = criteria[name]
        state = "met" if criterion["met"] else "not met"
        lines.append(f"  {name} {criterion['value']:g} {criterion['required']}: {state}")
    dawn = {True: "YES", False: "NO", None: "n/a (age or NIHSS unknown)"}[result["dawn"]]
    lines += [
        f"clinical-core mismatch (DAWN): {dawn}",
        result["notice"],
        f"{result['seconds']['total']:.1f} s; written to {out}: overview.png, result.json, "
        "probability.nii.gz, hypoperfusion_mask.nii.gz, core_mask.nii.gz",
    ]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
