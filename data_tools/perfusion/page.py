"""Perfusion scans of a cohort -> ``derivatives/perfusion/qc.html``, the worst first."""

from collections.abc import Sequence
from pathlib import Path

from data_tools import qc_page
from data_tools.flow import LeftOut
from data_tools.perfusion.maps import VOLUMES_AT_S
from data_tools.perfusion.patient_maps import PICTURE
from data_tools.perfusion.record import NOT_EQUIVALENT, PerfusionQuality
from data_tools.qc_page import ML, Column

COLUMNS: qc_page.Columns = (
    Column("participant_id", "Patient"),
    Column("verdict", "Verdict", None, "Good without a warning, poor with one."),
    *(
        Column(f"tmax_{at:g}", f"Tmax {at:g} s (mL)", ML, f"Tissue of a Tmax of {at:g} s or more.")
        for at in VOLUMES_AT_S
    ),
    Column("site_volume_ml", "Site's Tmax (mL)", ML, "Tissue by the site's threshold of Tmax."),
    Column("intensity_ratio", "HIR", 2, "Volume at 10 s over volume at 6 s."),
    Column("relative_ttp_ml", "TTP late (mL)", ML, "Tissue whose peak comes 4.5 s late or more."),
    Column("healthy_tmax_s", "Healthy Tmax (s)", 1, "Of the healthier half."),
    Column("early_percent", "Early (%)", 1, "Share of the brain with a Tmax below −0.5 s."),
    Column("brain_ml", "Brain (mL)", ML),
    Column("aif_voxels", "AIF voxels", 0, "That the arterial curve is the mean of."),
    Column("arrival_s", "Arrives (s)", 1, "When the bolus arrives."),
    Column("drop_percent", "Drop (%)", 0, "Signal that is lost at the bolus's peak."),
    Column("largest_motion_mm", "Motion (mm)", 1, "The largest of any frame."),
    Column("seconds", "Seconds", 1, "That the patient took."),
)
CONVENTION = (
    "Tmax depends on the method of deconvolution, its threshold, TR and the arterial curve (AIF)."
)
REMARKS = (
    "Look at every picture: are the AIF's voxels in an artery that feeds the brain, not in a vein "
    "and not behind the occlusion? Is the late region one territory?",
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
    columns = [each for each in COLUMNS if calibrated or each.key != "site_volume_ml"]
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
        "aif_voxels": len(quality.aif_voxels),
    }
    figures |= {f"tmax_{at}": volume for at, volume in quality.tmax_volumes_ml.items()}
    return qc_page.Row(
        participant_id=quality.participant_id,
        verdict=quality.verdict,
        cells={column.key: figures[column.key] for column in COLUMNS},
        messages=(*quality.warnings, *quality.notes, f"Tmax by {quality.convention.in_words()}"),
        picture="/".join((*quality.participant_id.split("_"), PICTURE)),
    )
