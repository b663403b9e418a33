"""Perfusion scans of a cohort -> ``derivatives/perfusion/qc.html``, the worst first."""

from collections.abc import Sequence
from pathlib import Path

from data_tools import qc_page
from data_tools.flow import LeftOut
from data_tools.perfusion.maps import VOLUMES_AT_S
from data_tools.perfusion.patient_maps import PICTURE
from data_tools.perfusion.record import NOT_EQUIVALENT, PerfusionQuality

COLUMNS: qc_page.Columns = (
    ("participant_id", "patient", None),
    ("verdict", "verdict", None),
    *((f"tmax_{at:g}", f"Tmax {at:g} s, mL", 0) for at in VOLUMES_AT_S),
    ("site_volume_ml", "Tmax by the site's threshold, mL", 0),
    ("intensity_ratio", "HIR", 2),
    ("relative_ttp_ml", "TTP 4.5 s late, mL", 0),
    ("healthy_tmax_s", "healthier half's Tmax, s", 1),
    ("early_percent", "early, % of brain", 1),
    ("brain_ml", "brain, mL", 0),
    ("made_by", "Tmax by", None),
    ("aif_voxels", "AIF voxels", 0),
    ("arrival_s", "bolus arrives, s", 1),
    ("drop_percent", "signal lost at the peak, %", 0),
    ("largest_motion_mm", "motion, mm", 1),
    ("seconds", "seconds", 1),
)
CONVENTION = (
    "Tmax depends on the method of deconvolution, its threshold, TR and the arterial curve (AIF)."
)
REMARKS = (
    "Look at every picture: are the AIF's voxels in an artery that feeds the brain, not in a vein "
    "and not behind the occlusion? Is the late region one territory?",
    "Early: Tmax below -0.5 s. HIR: volume at 10 s over volume at 6 s.",
)


def write(
    folder: Path,
    name: str,
    *,
    qualities: Sequence[PerfusionQuality],
    lost: Sequence[LeftOut],
    remarks: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        folder: ``derivatives/perfusion`` of a cohort, in which each patient's picture lies.
        name: of the cohort.
        qualities: of the patients with maps of this program.
        lost: the others.
        remarks: more to say above the table.
    """
    done = sorted(qualities, key=lambda quality: -quality.tmax_volumes_ml["6"])
    calibrated = any(quality.site_volume_ml is not None for quality in qualities)
    worth = CONVENTION if calibrated else f"{CONVENTION} These maps are {NOT_EQUIVALENT}."
    columns = [each for each in COLUMNS if calibrated or each[0] != "site_volume_ml"]
    rows = [*(qc_page.lost_row(each, columns) for each in lost), *map(_row, done)]
    table = qc_page.Table(
        name=f"perfusion of {name}",
        columns=columns,
        rows=rows,
        picture="Tmax, CBF, CBV, MTT and TTP of {}, its arterial curve and its motion",
        remarks=(worth, *REMARKS, *remarks),
    )
    qc_page.render(folder / "qc.html", table)


def _row(quality: PerfusionQuality) -> qc_page.Row:
    figures = quality.to_json() | {
        "early_percent": 100 * quality.early_share,
        "drop_percent": 100 * quality.drop_share,
        "made_by": quality.convention.in_words(),
        "aif_voxels": len(quality.aif_voxels),
    }
    figures |= {f"tmax_{at}": volume for at, volume in quality.tmax_volumes_ml.items()}
    return qc_page.Row(
        participant_id=quality.participant_id,
        verdict=quality.verdict,
        cells={key: figures[key] for key, _, _ in COLUMNS},
        messages=(*quality.warnings, *quality.notes),
        picture="/".join((*quality.participant_id.split("_"), PICTURE)),
    )
