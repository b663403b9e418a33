"""What the cohort's and the records' files say about the patients and the data."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, get_args

from data_tools import cohort as cohorts
from data_tools import flow, groups, labels
from data_tools.grid import (
    ADC_CORE_UM2_PER_S,
    ADC_CSF_UM2_PER_S,
    GRID_SHAPE,
    NIHSS_DIVISOR,
    NIHSS_MISSING,
    SLAB_SHAPE,
    SPACE,
    TMAX_HYPOPERFUSION_S,
)
from data_tools.manifest import SCHEMA_VERSION, Manifest
from data_tools.runtime import atomic
from tf_hypoperfusion import __version__
from tf_hypoperfusion.evaluation.dossier import files
from tf_hypoperfusion.evaluation.dossier.fact import (
    Fact,
    Known,
    Missing,
    Source,
    derive,
    first,
    in_words,
)
from tf_hypoperfusion.evaluation.dossier.files import Document, Folders, counts

Rows = Sequence[Mapping[str, Any]]
MANIFEST = "records/manifest.json"
# Of patients whose reference a program computed.
COMPUTED = "Tmax"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Facts about the patients of the records, their images and their reference.

    Attributes:
        name: of the cohort.
        simulated: whether patients, or some of them, are SIMULATED.
        licence: of the cohort.
        origin: addresses that it came from.
        acknowledgement: how its authors want to be cited.
        made_by: programs that wrote the MNI cohort, with version and flags.
        listed: patients in the raw cohort's table.
        preprocessed: patients in the MNI cohort's table.
        lost_before_records: who was left out before the records, by step and reason.
        patients: of the records, in words.
        visits: of the records.
        sites: names of hospitals.
        ages: in words, as the next five.
        sexes: counts.
        nihss: in words.
        sides: counts.
        occlusions: counts.
        fields_t: counts.
        nihss_missing: how many have no NIHSS.
        sides_unknown: how many have no side.
        derived: what was computed in place of being measured, counts.
        lacking: which images patients lack, counts.
        truth_from: what the reference was made of, counts.
        edited: how many references a person edited or drew.
        tmax_from: how this program made Tmax of raw series, counts.
        within_side: whether labels are cut to the stroke's side.
        other_territories: whether strokes outside the paper's population are in.
        core_rule: ADC of the core, from the records' code.
        grid: of the MNI space, likewise.
        slab: shape of a window, likewise.
        normalising: how images and NIHSS are scaled, likewise.
        registrations: kinds of the fit, counts; as the next five of the patients' qc.json.
        tmax_thresholds_s: counts.
        b_values: counts.
        spacings_mm: range of voxel sizes.
        verdicts: of the quality control, counts.
        slabs: windows in the records.
        stride: slices from one window to the next.
        subsets: number of them.
        subset_sizes: patients of each.
        dividing: how patients were divided, in words.
        seed: of that.
        disjoint: how many rows of the same patient or group are in two subsets.
        duplicates: pairs of the same head that were let pass.
        by_subset: rows of the table of the subsets: what, and a cell for each.
        checksums: of the records.
    """

    name: Known
    simulated: Known
    licence: Known
    origin: Known
    acknowledgement: Known
    made_by: Known
    listed: Known
    preprocessed: Known
    lost_before_records: Known
    patients: Known
    visits: Known
    sites: Known
    ages: Known
    sexes: Known
    nihss: Known
    sides: Known
    occlusions: Known
    fields_t: Known
    nihss_missing: Known
    sides_unknown: Known
    derived: Known
    lacking: Known
    truth_from: Known
    edited: Known
    tmax_from: Known
    within_side: Known
    other_territories: Known
    core_rule: Known
    grid: Known
    slab: Known
    normalising: Known
    registrations: Known
    tmax_thresholds_s: Known
    b_values: Known
    spacings_mm: Known
    verdicts: Known
    slabs: Known
    stride: Known
    subsets: Known
    subset_sizes: Known
    dividing: Known
    seed: Known
    disjoint: Known
    duplicates: Known
    by_subset: Known
    checksums: Known


def collect(folders: Folders, evaluated: Rows, trained: Mapping[int, Document]) -> DataFacts:
    """Read the records, the cohorts and, for what those do not say, the patients evaluated.

    Args:
        folders: of the study.
        evaluated: rows of patients.csv.
        trained: config.json of each fold.
    """
    manifest = files.document(folders, "records", "manifest.json")
    whole = _whole(manifest)
    of_mni = files.document(folders, "mni", cohorts.DESCRIPTION)
    of_raw = files.document(folders, "cohort", cohorts.DESCRIPTION)
    column = _column(evaluated, "run/patients.csv", "")
    if manifest and not whole:
        manifest = dataclasses.replace(manifest, refused="not a manifest of records")
    if whole:
        column = _column(whole.patients, MANIFEST, "patients[].")
    name = first(
        manifest.fact("cohort"), files.of_networks(trained, "records.cohort"),
        of_mni.fact("Name"), of_raw.fact("Name"),
    )  # fmt: skip
    described = (of_mni, of_raw)
    quality = _quality(folders)
    if folders.mni and not any(_quality_files(folders.mni)):
        # As in a simulated cohort, which preprocess did not write.
        quality["tmax_thresholds_s"] = _code_of(manifest)(
            {f"{TMAX_HYPOPERFUSION_S:g}": len(whole.patients) if whole else 0},
            "data_tools.mni_patient.tmax_threshold_s",
        )
    return DataFacts(
        name=name,
        simulated=_simulated(column("cohort", set), name),
        licence=first(manifest.fact("licence"), files.of_networks(trained, "records.licence"),
                      *(each.fact("License") for each in described)),
        origin=first(*(derive(_addresses, each.fact("SourceDatasets")) for each in described)),
        acknowledgement=first(*(each.fact("HowToAcknowledge") for each in described)),
        made_by=first(*(derive(_tools, each.fact("GeneratedBy")) for each in described)),
        listed=_rows_of_table(folders, "cohort"),
        preprocessed=_rows_of_table(folders, "mni"),
        lost_before_records=derive(
            lambda lines: flow.counted(flow.from_json(lines) or ()), manifest.fact("left_out")
        ),
        patients=column("participant_id", groups.counted_patients),
        visits=column("participant_id", len),
        sites=column("site", lambda v: sorted({str(each) for each in v if each not in ("", None)})),
        ages=column("age", _spread),
        sexes=column("sex", counts),
        nihss=column("nihss", _spread),
        sides=column("side", counts),
        occlusions=column("occlusion", counts),
        fields_t=column("field_strength_t", counts),
        nihss_missing=column("nihss", lambda values: len(values) - len(_numbers(values))),
        sides_unknown=column("side", lambda v: sum(each in ("unknown", "", None) for each in v)),
        derived=column("derived", lambda v: _parts_counted(v)),
        lacking=column("lacks", lambda v: counts(each for each in v if each)),
        truth_from=column("truth_from", counts),
        edited=column("truth_from", _edited),
        tmax_from=column("tmax_from", lambda v: counts(each for each in v if each)),
        within_side=manifest.fact("labels.within_stroke_side"),
        other_territories=manifest.fact("settings.other_territories"),
        **_of_the_code(manifest),
        **quality,
        slabs=manifest.fact("slabs"),
        stride=manifest.fact("settings.stride"),
        **_division(manifest, whole, files.document(folders, "records", "splits.json")),
        checksums=manifest.fact("fingerprint"),
    )  # fmt: skip


def _whole(manifest: Document) -> Manifest | None:
    try:
        found = Manifest.from_json(manifest.content)
        found.rows()
        return found
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _column(rows: Rows, file: str, before: str) -> Callable[..., Known]:
    """``column(name, make)``: what ``make`` finds in the values of a column."""

    def column(name: str, make: Callable[[list[Any]], Any]) -> Known:
        source = Source(file, before + name)
        if not any(name in row for row in rows):
            return Missing(source)
        return derive(make, Fact([row.get(name) for row in rows], (source,)))

    return column


def _simulated(cohorts_of_patients: Known, name: Known) -> Known:
    def says_so(names: Iterable[Any]) -> bool:
        return any("simulated" in str(each).lower() for each in names)

    if isinstance(cohorts_of_patients, Fact) and says_so(cohorts_of_patients.value):
        return derive(says_so, cohorts_of_patients)
    return derive(lambda said: says_so([said]), name)


def _numbers(values: Iterable[Any]) -> list[float]:
    found = []
    for value in values:
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            continue
    return [value for value in found if value == value]


def _spread(values: Sequence[Any]) -> str | None:
    """Median and range of the known values, and how many are known."""
    known = _numbers(values)
    if not known:
        return f"unknown for all {len(values)}"
    return (
        f"median {median(known):.4g} ({min(known):.4g} to {max(known):.4g}), known for "
        f"{len(known)} of {len(values)}"
    )


def _edited(values: Iterable[Any]) -> int:
    """References that a person edited.

    Raises:
        ValueError: what one of them was made of is not known.
    """
    found = list(values)
    if not set(found) <= set(get_args(labels.TruthFrom)):
        raise ValueError("what references were made of is not known")
    return sum(each != COMPUTED for each in found)


def _parts_counted(values: Iterable[Any]) -> dict[str, int]:
    return counts(part for value in values for part in str(value or "").split(", ") if part)


def _addresses(said: Any) -> list[str]:
    found = [each.get("URL") or each.get("DOI") for each in said if isinstance(each, dict)]
    return [str(each) for each in found if each]


def _tools(said: Any) -> str:
    tools = [each for each in said if isinstance(each, dict)]
    return "; ".join(
        " ".join(
            [str(tool.get("Name")), *([f"version {tool['Version']}"] if "Version" in tool else []),
             *([f"({tool['Description']})"] if "Description" in tool else [])]
        )
        for tool in tools
    )  # fmt: skip


def _rows_of_table(folders: Folders, folder: str) -> Known:
    source = Source(f"{folder}/{cohorts.PARTICIPANTS}", "participant_id")
    rows = files.table(folders, folder, cohorts.PARTICIPANTS)
    return Fact(len(rows), (source,)) if rows else Missing(source)


def _code_of(manifest: Document) -> Callable[..., Known]:
    """``of(value, *names)``: of this version's code, which made the records if their format is the
    same.
    """
    version = manifest.fact("schema_version")
    source = Source(MANIFEST, "schema_version")
    if isinstance(version, Fact) and version.value != SCHEMA_VERSION:
        version = Missing(source, f"format {version.value}, not this version's {SCHEMA_VERSION}")

    def of(value: Any, *names: str) -> Known:
        if isinstance(version, Missing):
            return version
        here = f"tf_hypoperfusion {__version__}"
        return Fact(value, (*(Source(here, name) for name in names), source))

    return of


def _of_the_code(manifest: Document) -> dict[str, Known]:
    of = _code_of(manifest)
    return {
        "core_rule": of(f"{ADC_CORE_UM2_PER_S:g}", "data_tools.grid.ADC_CORE_UM2_PER_S"),
        "grid": of(
            f"{SPACE}, 2 mm, {_by(GRID_SHAPE)} voxels", "data_tools.grid.SPACE",
            "data_tools.grid.GRID_SHAPE",
        ),
        "slab": of(_by(SLAB_SHAPE), "data_tools.grid.SLAB_SHAPE"),
        "normalising": of(
            "DWI and ADC were each divided by their mean in brain tissue, without fluid (ADC of "
            f"{ADC_CSF_UM2_PER_S:g} × 10⁻⁶ mm²/s and more); the NIHSS was divided by "
            f"{NIHSS_DIVISOR:g}, and a missing one is {NIHSS_MISSING:g}",
            "data_tools.intensity.normalise", "data_tools.grid.NIHSS_DIVISOR",
            "data_tools.grid.NIHSS_MISSING",
        ),
    }  # fmt: skip


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _quality(folders: Folders) -> dict[str, Known]:
    """What the patients' qc.json say together."""
    found = [atomic.read_json(path) for path in sorted(_quality_files(folders.mni))]
    found = [each for each in found if each]
    name = f"mni/*/qc.json ({len(found)} files)" if found else "mni/*/qc.json"

    def of(key: str, make: Callable[[list[Any]], Any]) -> Known:
        source = Source(name, key)
        values = [each.get(key) for each in found]
        if all(value is None for value in values):
            return Missing(source)
        return derive(make, Fact(values, (source,)))

    def in_ms(values: list[Any]) -> dict[str, int]:
        return counts(None if value is None else f"{value:g}" for value in values)

    return {
        "registrations": of("registration", counts),
        "tmax_thresholds_s": of("tmax_threshold_s", in_ms),
        "b_values": of("b_value_s_per_mm2", in_ms),
        "spacings_mm": of("spacing_mm", _spacing_range),
        "verdicts": of("verdict", counts),
    }


def _quality_files(mni: Path | None) -> Iterable[Path]:
    return mni.glob("*/qc.json") if mni else ()


def _spacing_range(values: Iterable[Any]) -> str:
    """Smallest to largest of each axis."""
    sizes = [each for each in values if isinstance(each, list) and len(each) == 3]
    ends = [(min(axis), max(axis)) for axis in zip(*sizes, strict=True)]
    return " x ".join(f"{low:g}" if low == high else f"{low:g}-{high:g}" for low, high in ends)


def _division(manifest: Document, whole: Manifest | None, splits: Document) -> dict[str, Known]:
    subsets = derive(len, manifest.fact("subsets"))
    settings = manifest.fact("settings")
    return {
        "subsets": subsets,
        "subset_sizes": derive(
            lambda all_of_them: [len(each["participants"]) for each in all_of_them],
            manifest.fact("subsets"),
        ),
        "dividing": derive(_way_of_dividing, settings),
        "seed": first(manifest.fact("settings.seed"), splits.fact("seed")),
        "disjoint": _shared(whole, splits),
        "duplicates": derive(len, manifest.fact("duplicates")),
        "by_subset": _by_subset(manifest, whole),
    }


def _way_of_dividing(settings: Any) -> str:
    if settings.get("splits"):
        return "by a table that the authors gave"
    if settings.get("leave_out"):
        return f"so that each {settings['leave_out']} is a subset"
    evenly = str(settings.get("stratify") or "none")
    if evenly == "none":
        return "at random"
    return f"at random, so that subsets are alike in {in_words(evenly.split(','))}"


def _shared(whole: Manifest | None, splits: Document) -> Known:
    """Patients, and groups of them, that are in more than one subset of splits.json."""
    source = Source("records/splits.json", "subsets")
    said = splits.content.get("subsets")
    if whole is None:
        return Missing(Source(MANIFEST, "patients"))
    rows = whole.rows()

    def count(subsets: list[list[str]]) -> int:
        together = groups.groups_of(rows)
        where: dict[str, set[int]] = {}
        for k, names in enumerate(subsets):
            for name in names:
                where.setdefault(together.get(name, name), set()).add(k)
        return sum(len(found) > 1 for found in where.values())

    if not isinstance(said, list):
        return Missing(source)
    return derive(count, Fact(said, (source, Source(MANIFEST, "patients[].group"))))


def _by_subset(manifest: Document, whole: Manifest | None) -> Known:
    """Rows of a table: what, and a cell for each subset."""
    if whole is None or not whole.patients:
        return Missing(Source(MANIFEST, "patients"), manifest.refused)
    columns: tuple[tuple[str, str, Callable[[list[Any]], Any]], ...] = (
        ("Patients", "participant_id", len),
        ("Age, years", "age", _spread),
        ("Sex", "sex", counts),
        ("NIHSS", "nihss", _spread),
        ("Side", "side", counts),
        ("Occlusion", "occlusion", counts),
        ("Reference lesion, mL", "truth_ml", _spread),
        ("Core, mL", "core_ml", _spread),
    )

    def lines(found: Manifest) -> list[list[str]]:
        rows = [found.rows_of([k]) for k in range(len(found.subsets))]
        return [
            [title, *(in_words(make([row.get(key) for row in each])) for each in rows)]
            for title, key, make in columns
        ]

    sources = tuple(Source(MANIFEST, f"patients[].{key}") for _, key, _ in columns)
    return derive(lines, Fact(whole, sources))
