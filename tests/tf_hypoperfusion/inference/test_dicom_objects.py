"""Results as DICOM objects: where they belong, and what a real PACS says of them."""

import contextlib
import dataclasses
import io
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.calibrations import calibration_of, steps
from helpers.predictions import core_findings, corner_backend, prediction_of

from data_tools.cohort import find_raw_files
from data_tools.patient import core_of, load_native
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import (
    calibration,
    dicom_identity,
    dicom_objects,
    dicom_report,
    result_folder,
)
from tf_hypoperfusion.inference.deciding_core import WORDS, Cores
from tf_hypoperfusion.inference.result import Replaced
from tf_hypoperfusion.inference.result_files import OutputOptions
from tf_hypoperfusion.inference.result_folder import PatientFiles

pytest.importorskip("highdicom", reason="extra `dicom` is not installed")
from helpers import orthanc as real_pacs


@pytest.fixture(scope="module")
def done(scanned, tmp_path_factory):
    """The result folder of that patient, with DICOM objects."""
    out = tmp_path_factory.mktemp("result")
    with contextlib.redirect_stderr(io.StringIO()):
        result = result_folder.predict(
            PatientFiles(
                dwi=str(scanned), adc=None, given=ClinicalFacts("left", 14, 66), name="sub-1"
            ),
            str(out), corner_backend,
            options=OutputOptions(dicom=True),
        )  # fmt: skip
    return out, result


def words_of(report):
    """All that a report says, without what surrounds it."""
    return "\n".join(str(e.value) for e in report.iterall() if e.keyword == "TextValue")


def report_text(result, sources):
    """A report without segments, as pydicom prints it, and its words whole."""
    uids = dicom_identity.uids_of(result, sources)
    made = dicom_report.report(result, None, [], sources=sources, uids=uids)
    return f"{made}\n{words_of(made)}"


def in_patient_mm(segmentation, number):
    """Millimetres (RAS) of all voxels of a segment, read by pydicom alone."""
    pixels = segmentation.pixel_array
    points = []
    for frame, image in zip(segmentation.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        shared = segmentation.SharedFunctionalGroupsSequence[0]
        axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(
            2, 3
        )
        rows, columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        r, c = np.nonzero(image)
        points.append(place + c[:, None] * columns * axes[0] + r[:, None] * rows * axes[1])
    return np.concatenate(points) * [-1, -1, 1]


def test_segments_lie_where_the_masks_lie(done):
    import pydicom

    segmentation = pydicom.dcmread(done[0] / "dicom/segmentation.dcm")
    labels = [item.SegmentLabel for item in segmentation.SegmentSequence]
    assert labels == ["predicted hypoperfusion", "core: ADC <= 620e-6 mm2/s"]
    for number, name in enumerate(("hypoperfusion_mask", "core_mask"), start=1):
        image = nib.load(done[0] / f"{name}.nii.gz")
        expected = nib.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() > 0))
        found = in_patient_mm(segmentation, number)
        assert len(found) == len(expected)
        order = [np.lexsort(points.round(1).T) for points in (found, expected)]
        np.testing.assert_allclose(found[order[0]], expected[order[1]], atol=0.1)


def test_objects_refer_to_the_scan_and_say_research(done, scanned):
    import pydicom

    source = pydicom.dcmread(next(scanned.iterdir()))
    objects = {path.name: pydicom.dcmread(path) for path in (done[0] / "dicom").iterdir()}
    assert set(objects) == {"segmentation.dcm", "probability.dcm", "report.dcm", "capture.dcm"}
    for each in objects.values():
        assert each.StudyInstanceUID == source.StudyInstanceUID
        assert each.PatientID == source.PatientID
        assert "research use only" in each.SeriesDescription
        assert each.SoftwareVersions == __version__ and each.Manufacturer == "tf_hypoperfusion"
    probability = objects["probability.dcm"]
    assert probability.SegmentationFractionalType == "PROBABILITY"
    top = probability.pixel_array.max() / probability.MaximumFractionalValue
    assert top == pytest.approx(
        nib.load(done[0] / "probability.nii.gz").get_fdata().max(), abs=0.006
    )
    text = str(objects["report.dcm"])
    for value in (done[1].hypoperfusion_ml, done[1].core_ml, done[1].mismatch_ml):
        assert f"{round(value, 2)}" in text
    assert objects["segmentation.dcm"].SOPInstanceUID in text


def test_an_unsure_answer_and_its_interval_are_in_the_report(done, scanned):
    sources = dicom_objects.sources_of(scanned, load_native(scanned).dicom_source)
    unsure = calibration.answer(
        calibration_of(errors=steps(19)), hypoperfusion_ml=100.0, core_ml=10.0
    )
    result = dataclasses.replace(done[1], answer=unsure)
    text = report_text(result, sources)
    assert "'Indeterminate'" in text and "Perfusion imaging would tell." in text
    assert "Target mismatch (DEFUSE 3): UNSURE (" in text
    assert "range of lower measurement uncertainty" in text
    assert "'1.0'" in text and "'361.0'" in text  # (10 - 9)^2 and (10 + 9)^2
    assert "True hypoperfusion 1.0 to 361 mL in 90%" in text
    text = report_text(done[1], sources)
    assert "Indeterminate" not in text and "uncertainty" not in text and "UNSURE" not in text


@pytest.mark.parametrize(
    ("by", "label", "way"),
    [("learnt", "predicted core", "AUTOMATIC"), ("given", "core: given mask", "MANUAL")],
)
def test_the_objects_say_whose_core_it_is(by, label, way, done, scanned):
    native = load_native(scanned)
    given = prediction_of(
        native,
        probability=native.brain * np.float32(0.4),
        hypoperfusion=native.brain,
        core=core_findings(native.brain),
        cores=Cores(by=by, rule_ml=0.0),
    )
    result = dataclasses.replace(done[1], core_by=by)
    sources = dicom_objects.sources_of(scanned, native.dicom_source)
    objects = dicom_objects._objects(given, result, sources)
    hypoperfusion, core = objects["segmentation.dcm"].SegmentSequence
    assert (core.SegmentLabel, core.SegmentAlgorithmType) == (label, way)
    assert hypoperfusion.SegmentAlgorithmType == "AUTOMATIC"
    assert f"mL by the {WORDS[by]}" in words_of(objects["report.dcm"])
    assert WORDS["rule"] in report_text(done[1], sources)


def test_what_is_not_known_and_a_side_that_was_found_are_said_in_the_report(done, scanned):
    sources = dicom_objects.sources_of(scanned, load_native(scanned).dicom_source)
    given = report_text(done[1], sources)
    assert "Side: left." in given and "NIHSS: 14." in given and "found" not in given
    result = dataclasses.replace(
        done[1], core_ml=None, core_mni_ml=None, core_by=None, mismatch_ml=None,
        mismatch_ratio=None, missing="ADC", side_found=True, side_share=0.934,
        answer=calibration.answer(None, hypoperfusion_ml=100.0, core_ml=None),
    )  # fmt: skip
    text = report_text(result, sources)
    assert "Side: left (found: asked about either side, 93% of the volume)." in text
    assert "Core not known." in text and "Image not there: ADC." in text
    assert "'Indeterminate'" in text
    assert "'Volume Ratio'" in given and "'Volume Ratio'" not in text and "Mismatch" not in text


def test_a_ratio_that_is_a_cap_says_so_and_so_does_an_invisible_core(done, scanned):
    sources = dicom_objects.sources_of(scanned, load_native(scanned).dicom_source)
    small = dataclasses.replace(done[1], core_ml=1.0, mismatch_ratio=20.0, mismatch_ml=99.0)
    text = report_text(small, sources)
    assert "ratio 20 or more (a cap: larger ones are given as this)" in text
    assert "no visible core" not in text
    none = dataclasses.replace(done[1], core_ml=0.0, mismatch_ratio=20.0, mismatch_ml=100.0)
    text = report_text(none, sources)
    assert "ratio 20 or more (a cap: the core is 0 mL)" in text
    assert "Core 0.0 mL (no visible core)" in text
    assert "a cap" not in report_text(dataclasses.replace(done[1], mismatch_ratio=19.9), sources)


def test_every_object_names_the_model_and_every_warning(done, scanned):
    import pydicom

    objects = {path.stem: pydicom.dcmread(path) for path in (done[0] / "dicom").iterdir()}
    model = "model shown, version 3; SHA-256 abc; trained on Simulated"
    assert done[1].warnings
    for name, each in objects.items():
        text = words_of(each) if name == "report" else each.ImageComments
        for said in (model, done[1].notice, *(f"WARNING: {w}" for w in done[1].warnings)):
            assert said in text, (name, said)
    algorithm = (
        objects["segmentation"].SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    )
    assert "shown" in algorithm[0].AlgorithmName and "model 3 abc" in algorithm[0].AlgorithmVersion
    assert "trained on Simulated" in str(algorithm[0].AlgorithmParameters)
    schemes = {
        item.CodingSchemeDesignator for item in objects["report"].CodingSchemeIdentificationSequence
    }
    used = {e.value for e in objects["report"].iterall() if e.keyword == "CodingSchemeDesignator"}
    assert used == schemes


@pytest.mark.parametrize("why", ["images", "person"])
def test_a_later_answer_says_which_one_it_replaces_and_only_a_person_s_is_another(
    why, done, scanned
):
    from pydicom import dcmread

    native = load_native(scanned)
    sources = dicom_objects.sources_of(scanned, native.dicom_source)
    region = native.brain.copy()
    given = prediction_of(
        native, probability=region * np.float32(0.7), hypoperfusion=region,
        core=core_findings(core_of(native)),
    )  # fmt: skip
    replaced = Replaced(answered="2026-01-31 12:00", why=why)
    later = dataclasses.replace(done[1], replaces=replaced)
    first, second = (
        [dcmread(io.BytesIO(each)) for each in dicom_objects.draw(given, r, sources).values()]
        for r in (done[1], later)
    )
    for old, new in zip(first, second, strict=True):
        assert new.SeriesDescription == f"{old.SeriesDescription}, replaces earlier"
        assert len(new.SeriesDescription) <= 64
        said = words_of(new) if new.Modality == "SR" else new.ImageComments
        assert "This replaces the answer of 2026-01-31 12:00: " in said
        assert (new.SOPInstanceUID == old.SOPInstanceUID) == (why == "images")


def test_the_picture_is_readable_and_says_so(done):
    import pydicom

    picture = pydicom.dcmread(done[0] / "dicom/capture.dcm")
    pixels = picture.pixel_array
    assert pixels.shape[2] == 3 and min(pixels.shape[:2]) > 400
    assert picture.BurnedInAnnotation == "YES" and picture.Modality == "OT"
    coloured = np.ptp(pixels.astype(int), axis=2) > 40
    assert coloured.mean() > 0.002  # contours and warnings, beside grey slices and white words


def test_half_stays_on_its_side():
    values = np.nextafter(np.float32(0.5), np.float32([0, 0.5, 1]))
    values = np.concatenate([values, np.linspace(0, 1, 4001, dtype=np.float32)])
    stored = dicom_objects.on_steps(values)
    assert ((stored >= 0.5) == (values >= 0.5)).all()
    assert np.abs(stored - values).max() <= 0.005 + 1e-6
    kept = np.around(stored * float(dicom_objects.PROBABILITY_STEPS))  # as it is written
    assert ((kept >= 100) == (values >= 0.5)).all()


def test_the_same_answer_has_the_same_identity_and_another_one_another(done, scanned):
    sources = dicom_objects.sources_of(scanned, load_native(scanned).dicom_source)
    again = dataclasses.replace(
        done[1], seconds=dataclasses.replace(done[1].seconds, total=1e3), patient="other name"
    )
    other = dataclasses.replace(done[1], hypoperfusion_ml=done[1].hypoperfusion_ml + 0.1)
    uids = [dicom_identity.uids_of(each, sources)("report") for each in (done[1], again, other)]
    assert uids[0] == uids[1] != uids[2]
    assert dicom_identity.uids_of(done[1], sources[1:])("report") != uids[0]
    assert len(uids[0]) <= 64


@pytest.mark.parametrize("empty", ["core", "hypoperfusion", "both"])
def test_an_empty_mask_is_no_segment(empty, done, scanned):
    """No visible core is no reason to fail: a fifth of the published patients had none."""
    native = load_native(scanned)
    none = np.zeros(native.dwi.data.shape, bool)
    some = native.brain
    given = prediction_of(
        native,
        probability=native.brain * np.float32(0.4),
        hypoperfusion=some if empty == "core" else none,
        core=core_findings(some if empty == "hypoperfusion" else none),
    )
    sources = dicom_objects.sources_of(scanned, native.dicom_source)
    objects = dicom_objects._objects(given, done[1], sources)
    assert ("segmentation.dcm" in objects) == (empty != "both")
    assert {"probability.dcm", "report.dcm", "capture.dcm"} <= set(objects)
    if empty != "both":
        assert len(objects["segmentation.dcm"].SegmentSequence) == 1


def test_images_without_a_frame_of_reference_are_refused_before_the_work(scanned, tmp_path):
    import pydicom

    folder = shutil.copytree(scanned, tmp_path / "scan")
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        del data.FrameOfReferenceUID, data.PatientName
        data.save_as(path)
    with pytest.raises(InputError, match="no frame of reference"):
        result_folder.predict(
            PatientFiles(dwi=str(folder), adc=None, given=ClinicalFacts("left", 14)),
            str(tmp_path / "out"), corner_backend,
            options=OutputOptions(dicom=True), log=lambda text: None,
        )  # fmt: skip
    assert not (tmp_path / "out/report.html").exists()


def test_files_that_are_no_dicom_are_refused_before_the_work(raw_cohort, tmp_path):
    found, _ = find_raw_files(raw_cohort, "sub-0001")
    with pytest.raises(InputError, match="expected a folder of DICOM files as --dwi"):
        result_folder.predict(
            PatientFiles(
                dwi=str(found.dwi), adc=str(found.adc), given=ClinicalFacts("left", 14)
            ),
            str(tmp_path / "out"), corner_backend,
            options=OutputOptions(dicom=True), log=lambda text: None,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    """A real PACS: address of its DICOMweb interface."""
    pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed")
    with real_pacs.orthanc(tmp_path_factory.mktemp("orthanc")) as (port, _):
        yield f"http://127.0.0.1:{port}/dicom-web"


def test_a_real_pacs_takes_the_objects_and_lists_them(done, scanned, orthanc):
    import pydicom
    from dicomweb_client.api import DICOMwebClient

    client = DICOMwebClient(orthanc)
    sources = [pydicom.dcmread(path) for path in sorted(scanned.iterdir())]
    objects = [pydicom.dcmread(path) for path in sorted((done[0] / "dicom").iterdir())]
    client.store_instances([*sources, *objects])
    study = sources[0].StudyInstanceUID
    series = client.search_for_series(study, fields=["SeriesDescription"])
    listed = {
        item["00080060"]["Value"][0]: item.get("0008103E", {}).get("Value", [""])[0]
        for item in series
    }
    assert set(listed) == {"MR", "SEG", "SR", "OT"}
    assert len(series) == 5
    assert "research use only" in listed["SEG"] and "research use only" in listed["SR"]
    segmentation = next(o for o in objects if o.SeriesNumber == 9001)
    back = client.retrieve_instance(
        study, segmentation.SeriesInstanceUID, segmentation.SOPInstanceUID
    )
    assert back.PixelData == segmentation.PixelData


def scanned_head(folder, layout):
    """A known head as files of one layout, turned so that no axis is that of the patient."""
    from helpers.dicom_files import write_enhanced, write_mosaic, write_series
    from helpers.phantom import phantom

    head = phantom()
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    images, affine = [head.image(b) for b in (0, 1000)], turn @ head.affine
    words = {"number": 3, "description": "DWI TRACEW", "kind": ["DERIVED", "PRIMARY", "TRACEW"]}
    if layout == "classic":
        write_series(folder, images, affine, b_values=[0, 1000], **words)
    elif layout == "enhanced":
        write_enhanced(folder / "all.dcm", images, affine, b_values=[0, 1000], **words)
    elif layout == "enhanced, each frame with its geometry":  # as Philips writes it
        write_enhanced(
            folder / "all.dcm", images, affine, b_values=[0, 1000], shares=False, **words
        )
    elif layout == "a file an image":
        for b, image in zip((0, 1000), images, strict=True):
            write_enhanced(
                folder / f"{b}.dcm", [image], affine, b_values=[b], series="1.2.7", **words
            )
    else:
        for b, image in zip((0, 1000), images, strict=True):
            write_mosaic(folder / f"{b}.dcm", image, affine, b_value=b, series="1.2.7", **words)
    return head


@pytest.mark.parametrize(
    "layout",
    ["classic", "enhanced", "enhanced, each frame with its geometry", "a file an image", "mosaic"],
)
def test_another_program_reads_the_segments_where_they_lie(layout, done, tmp_path):
    """dcmqi (DCMTK inside) makes volumes of them, dciodvfy checks what the standard wants."""
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed")
    import pydicom

    head = scanned_head(tmp_path / "in", layout)
    native = load_native(tmp_path / "in")
    x, y, _ = np.indices(native.dwi.data.shape)
    region = native.brain & (x < 20) & (y > 25)  # no symmetry hides a wrong turn
    core = core_of(native)
    assert core.sum() == head.core.sum()
    given = prediction_of(
        native,
        probability=region * np.float32(0.7),
        hypoperfusion=region,
        core=core_findings(core),
    )
    sources = dicom_objects.sources_of(tmp_path / "in", native.dicom_source)
    for source in sources:  # as a hospital has them
        source.PatientName, source.StudyID = "DOE^JANE", "1"
    for name, content in dicom_objects.draw(given, done[1], sources).items():
        (tmp_path / name).write_bytes(content)
        faults = standard_faults(tmp_path / name)
        assert not faults, (name, faults)
    program = Path(dcmqi.__file__).parent / "bin/segimage2itkimage"
    subprocess.run(
        [program, "--inputDICOM", tmp_path / "segmentation.dcm", "--outputDirectory", tmp_path,
         "-t", "nii", "-p", "seg"],
        check=True, capture_output=True,
    )  # fmt: skip
    for number, mask in ((1, region), (2, core)):
        other = nib.load(tmp_path / f"seg-{number}.nii.gz")
        found, expected = (
            nib.affines.apply_affine(affine, np.argwhere(values))
            for affine, values in ((other.affine, other.get_fdata() > 0), (native.dwi.affine, mask))
        )
        assert len(found) == len(expected)
        order = [np.lexsort(points.round(1).T) for points in (found, expected)]
        np.testing.assert_allclose(found[order[0]], expected[order[1]], atol=0.1)
    segmentation = pydicom.dcmread(tmp_path / "segmentation.dcm")
    named = {
        str(item.ReferencedSOPInstanceUID)
        for series in segmentation.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert named == {str(source.SOPInstanceUID) for source in sources}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("SpecificCharacterSet", "?ISO 2022 IR 87"),
     ("PatientBirthDate", "1950"), ("StudyDate", "2020-1-1"), ("PatientName", "DOE\\JOHN"),
     ("StudyTime", "noon"), ("PatientSex", "")],
)  # fmt: skip
def test_odd_attributes_of_the_scan_lose_no_result(keyword, value, done, tmp_path):
    import pydicom

    scanned_head(tmp_path / "in", "classic")
    for path in (tmp_path / "in").iterdir():
        data = pydicom.dcmread(path)
        data.add_new(keyword, "LO", value.replace("\\", "?"))  # as text, for it is no such value
        if keyword == "SpecificCharacterSet":
            data.add_new(keyword, "CS", value.split("?"))
            data.PatientName = "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"
        data.save_as(path)
        path.write_bytes(path.read_bytes().replace(b"DOE?JOHN", b"DOE\\JOHN"))
    native = load_native(tmp_path / "in")
    sources = dicom_objects.sources_of(tmp_path / "in", native.dicom_source)
    given = prediction_of(
        native, probability=native.brain * np.float32(0.7), hypoperfusion=native.brain,
        core=core_findings(core_of(native)),
    )  # fmt: skip
    assert len(dicom_objects.draw(given, done[1], sources)) == len(dicom_objects.FILES)


def standard_faults(path):
    """What dciodvfy calls an error or a warning; nothing where it is not installed."""
    try:
        run = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
    except FileNotFoundError:
        run = subprocess.run([Path(sys.executable).with_name("dciodvfy"), path],
                             capture_output=True, text=True)  # fmt: skip
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning"))]
