"""Folders of scanners' files: the DWI, its weightings and the ADC map of the head that was written.

Figures are compared with a head that is known to the voxel (helpers.phantom).
"""

import os
import shutil

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("pydicom", reason="extra `dicom` is not installed")

import pydicom
from helpers.dicom_files import TRACE, write_enhanced, write_mosaic, write_series
from helpers.phantom import phantom

from data_tools.dicom.frames import pixels, read_folder
from data_tools.dicom.stacks import Kind, build, grouped, kind_of
from data_tools.dicom.study import _one_patient
from data_tools.overrides import Overrides
from data_tools.patient import core_of, load_native
from data_tools.runtime.errors import InputError

HEAD = phantom()
TRACEW = ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "ND"]
MAP = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]
PLAIN = ["ORIGINAL", "PRIMARY", "OTHER"]
AXES = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
SLICES = HEAD.core.shape[2]


def dwi(folder, number=3, **options):
    """b = 0 and the trace image in one series."""
    given = {"description": "ep2d_diff_TRACEW", "kind": TRACEW, "b_values": [0, 1000]} | options
    volumes = [HEAD.image(b) for b in given["b_values"]]
    return write_series(folder, volumes, HEAD.affine, number=number, **given)


def adc(folder, number=4, **options):
    """The scanner's map."""
    given = {"description": "ep2d_diff_ADC", "kind": MAP} | options
    return write_series(folder, [HEAD.adc_um2_per_s], HEAD.affine, number=number, **given)


def check(folder, overrides=None, tolerance=0.01):
    """Read it; the core has its mL and lies where it lies."""
    native = load_native(folder, overrides=overrides or Overrides())
    core = core_of(native)
    ml = core.sum() * native.dwi.voxel_ml
    assert ml == pytest.approx(HEAD.core_ml, rel=tolerance)
    centre = nib.affines.apply_affine(native.dwi.affine, np.argwhere(core).mean(axis=0))
    np.testing.assert_allclose(centre, HEAD.core_centre_mm, atol=1.0)
    return native


def refusal(folder, overrides=None):
    with pytest.raises(InputError) as error:
        load_native(folder, overrides=overrides or Overrides())
    return str(error.value)


class TestValues:
    """What is displayed counts, whatever else a vendor stores."""

    @pytest.mark.parametrize("second_slope", [0.7, 0.9, 1.6, 0.00135])
    def test_philips_second_scale_changes_nothing(self, second_slope, tmp_path):
        def private(data, image, level):
            block = data.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
            block.add_new(0x0D, "FL", 0.0)
            block.add_new(0x0E, "FL", second_slope)

        dwi(tmp_path, maker="Philips Medical Systems", kind=PLAIN, description="DWI")
        adc(tmp_path, maker="Philips Medical Systems", change=private,
            scale=lambda image, level: (0.5, 0.0))  # fmt: skip
        native = check(tmp_path)
        inside = native.brain
        assert np.median(native.adc.data[inside]) == pytest.approx(
            np.median(HEAD.adc_um2_per_s[HEAD.s0 > 0]), rel=0.05
        )

    @pytest.mark.parametrize("maker", ["SIEMENS", "GE MEDICAL", "Philips", "CANON_MEC"])
    def test_each_slice_has_its_own_scale(self, maker, tmp_path):
        dwi(tmp_path, maker=maker)
        adc(tmp_path, maker=maker, scale=lambda image, level: (0.5 + 0.05 * level, 3.0 * level))
        native = check(tmp_path)
        there = nib.affines.apply_affine(
            np.linalg.inv(native.adc.affine) @ HEAD.affine, np.argwhere(HEAD.s0 > 0)
        )
        got = native.adc.data[tuple(there.round().astype(int).T)]
        np.testing.assert_allclose(got, HEAD.adc_um2_per_s[HEAD.s0 > 0], atol=1.0)

    def test_the_stored_values_are_those_that_an_independent_reader_shows(self, tmp_path):
        import subprocess

        dcm2niix = pytest.importorskip("dcm2niix", reason="dcm2niix is not installed")
        dwi(tmp_path / "in")
        subprocess.run(
            [dcm2niix.bin, "-z", "n", "-f", "x", "-o", str(tmp_path), str(tmp_path / "in")],
            check=True, capture_output=True,
        )  # fmt: skip
        other = nib.load(tmp_path / "x.nii")
        native = check(tmp_path / "in")
        mm = nib.affines.apply_affine(native.dwi.affine, np.argwhere(native.brain))
        at = nib.affines.apply_affine(np.linalg.inv(other.affine), mm)
        np.testing.assert_allclose(at, at.round(), atol=1e-3)
        theirs = other.get_fdata()[..., 1][tuple(at.round().astype(int).T)]
        np.testing.assert_array_equal(native.dwi.data[native.brain], theirs)

    def test_padding_is_no_image(self, tmp_path):
        def pad(data, image, level):
            data.PixelPaddingValue = 0
            data.RescaleSlope, data.RescaleIntercept = "1", "50"

        dwi(tmp_path)
        adc(tmp_path, change=pad)
        path = tmp_path / "IM040001.dcm"
        native = load_native(tmp_path)
        assert pydicom.dcmread(path).RescaleIntercept == 50
        assert native.adc.data.min() == 0

    @pytest.mark.parametrize("ends", [(0, 9), (9, 0), (65500, 65535), (3, None)])
    @pytest.mark.parametrize("signed", [False, True])
    def test_the_whole_range_of_padding_is_no_image(self, signed, ends, tmp_path):
        """Around the head every number of the range stands; nothing of the head is in it."""
        numbers = [n for n in ends if n is not None]
        span = range(min(numbers), max(numbers) + 1)

        def pad(data, image, level):
            stored = data.pixel_array.copy()
            outside = HEAD.s0[:, :, level].T == 0
            stored[outside] = np.resize(np.array(span, np.uint16), outside.sum())
            data.PixelData = stored.tobytes()
            data.PixelRepresentation = int(signed)
            vr = "US" if ends[0] > 32767 or not signed else "SS"
            data.add_new("PixelPaddingValue", vr, ends[0])
            if ends[1] is not None:
                data.add_new("PixelPaddingRangeLimit", vr, ends[1])
            data.RescaleSlope, data.RescaleIntercept = "1", "30"

        dwi(tmp_path, b_values=[0], change=pad)
        scan = read_folder(tmp_path)
        stack = pixels(sorted(scan.frames, key=lambda frame: frame.order)[:SLICES])
        outside = HEAD.s0.transpose(2, 1, 0) == 0
        assert not stack[outside].any()
        np.testing.assert_allclose(
            stack[~outside], HEAD.image(0).transpose(2, 1, 0)[~outside].round() + 30
        )

    @pytest.mark.parametrize(
        ("syntax", "name"),
        [
            ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),
            ("1.2.840.10008.1.2.4.100", "MPEG2"),
            ("1.2.3.4.5", "unknown"),
        ],
    )
    def test_a_compression_that_nobody_reads_is_named(self, syntax, name, tmp_path):
        write_series(tmp_path, [HEAD.s0[:, :, :2]], HEAD.affine, number=3, description="DWI",
                     kind=PLAIN)  # fmt: skip
        path = tmp_path / "IM030001.dcm"
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = pydicom.encaps.encapsulate([b"\0" * 8])
        data["PixelData"].is_undefined_length = True
        data.save_as(path, implicit_vr=False, little_endian=True)
        with pytest.raises(InputError, match="compressed in a way that is not supported") as error:
            pixels(list(read_folder(tmp_path).frames))
        assert f"{name}" in str(error.value) and syntax in str(error.value)
        assert "IM030001.dcm" in str(error.value) and "damaged" not in str(error.value)

    @pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLSLossless"])
    def test_compressed_pixels(self, syntax, tmp_path):
        dwi(tmp_path)
        for path in tmp_path.iterdir():
            data = pydicom.dcmread(path)
            data.compress(getattr(pydicom.uid, syntax))
            data.save_as(path)
        check(tmp_path)


class TestLayouts:
    """One study in many forms."""

    @pytest.mark.parametrize("with_adc", [True, False])
    @pytest.mark.parametrize("maker", ["Philips Medical Systems", "GE MEDICAL", "CANON_MEC"])
    def test_directions_and_their_mean_in_one_series(self, maker, with_adc, tmp_path):
        """The directions hold other numbers, so that it shows if they are taken."""
        volumes = [HEAD.image(0), *(HEAD.image(1000, share) for share in (0.2, 0.4, 0.6))]
        write_series(
            tmp_path, [*volumes, HEAD.image(1000)], HEAD.affine, number=401, description="DWI",
            kind=PLAIN, b_values=[0, 1000, 1000, 1000, 1000], maker=maker,
            directions=[TRACE, *AXES, TRACE],
        )  # fmt: skip
        if with_adc:
            adc(tmp_path, number=402, maker=maker, description="dADC")
        check(tmp_path)

    def test_directions_alone_make_a_trace_image(self, tmp_path):
        volumes = [HEAD.image(1000, share) for share in (0.8, 1.0, 1.2)]
        write_series(
            tmp_path, [HEAD.image(0), *volumes], HEAD.affine, number=4, description="DWI",
            kind=PLAIN, b_values=[0, 1000, 1000, 1000], directions=[TRACE, *AXES],
        )  # fmt: skip
        check(tmp_path)

    @pytest.mark.parametrize("maker", ["SIEMENS", "Philips", "GE MEDICAL", "UIH", "Hitachi"])
    def test_one_direction_is_refused(self, maker, tmp_path):
        write_series(
            tmp_path, [HEAD.image(0), HEAD.image(1000, 0.85)], HEAD.affine, number=4,
            description="DWI", kind=PLAIN, b_values=[0, 1000], directions=[TRACE, AXES[0]],
            maker=maker,
        )  # fmt: skip
        message = refusal(tmp_path)
        assert "1 direction only" in message and "--few_directions" in message
        taken = load_native(tmp_path, overrides=Overrides(few_directions=True))
        assert any("--few_directions" in warning for warning in taken.warnings)

    def test_each_direction_in_a_series_of_its_own(self, tmp_path):
        for k, axis in enumerate(AXES):
            write_series(
                tmp_path, [HEAD.image(0), HEAD.image(1000)], HEAD.affine, number=k + 1,
                description=f"DWI {k}", kind=PLAIN, b_values=[0, 1000], directions=[TRACE, axis],
            )  # fmt: skip
        native = check(tmp_path)
        assert any("one scan in 3 series" in note for note in native.notes)

    @pytest.mark.parametrize("maker", ["Philips Medical Systems", "SIEMENS"])
    @pytest.mark.parametrize("b_value", [500, 700, 1000])
    def test_enhanced_files(self, maker, b_value, tmp_path):
        write_enhanced(
            tmp_path / "dwi.dcm", [HEAD.image(0), HEAD.image(b_value)], HEAD.affine, number=401,
            description="DWI", kind=PLAIN, b_values=[0, b_value], maker=maker,
        )  # fmt: skip
        write_enhanced(
            tmp_path / "adc.dcm", [HEAD.adc_um2_per_s], HEAD.affine, number=402,
            description="dADC", kind=MAP, maker=maker, scale=(0.9, 0.0),
        )  # fmt: skip
        assert check(tmp_path).b_value == b_value

    def test_an_enhanced_file_for_each_image(self, tmp_path):
        series = pydicom.uid.generate_uid()
        for b in (0, 1000):
            write_enhanced(
                tmp_path / f"{b}.dcm", [HEAD.image(b)], HEAD.affine, number=5, series=series,
                description="DWI", kind=PLAIN, b_values=[b], maker="SIEMENS",
            )  # fmt: skip
        check(tmp_path)

    @pytest.mark.parametrize("turned", [False, True])
    def test_mosaics(self, turned, tmp_path):
        angle = 0.3 if turned else 0.0
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        series = pydicom.uid.generate_uid()
        for b in (0, 1000):
            write_mosaic(
                tmp_path / f"{b}.dcm", HEAD.image(b), turn @ HEAD.affine, number=3,
                description="ep2d_diff_TRACEW", kind=TRACEW, b_value=b, series=series,
            )  # fmt: skip
        native = load_native(tmp_path)
        core = core_of(native)
        assert core.sum() * native.dwi.voxel_ml == pytest.approx(HEAD.core_ml, rel=0.01)
        centre = nib.affines.apply_affine(native.dwi.affine, np.argwhere(core).mean(axis=0))
        expected = nib.affines.apply_affine(turn, HEAD.core_centre_mm)
        np.testing.assert_allclose(centre, expected, atol=1.0)

    def test_a_mosaic_without_its_header_says_why(self, tmp_path):
        path = tmp_path / "m.dcm"
        write_mosaic(path, HEAD.image(1000), HEAD.affine, number=3, description="TRACEW",
                     kind=TRACEW, b_value=1000)  # fmt: skip
        data = pydicom.dcmread(path)
        del data[0x0029, 0x1010]
        data.save_as(path)
        assert "mosaic without Siemens' private header" in refusal(tmp_path)

    @pytest.mark.parametrize("adc_too", [True, False])
    def test_b0_and_trace_in_two_series(self, adc_too, tmp_path):
        dwi(tmp_path, number=5, b_values=[0], description="ep2d_diff_b0", kind=PLAIN)
        dwi(tmp_path, number=6, b_values=[1000], description="ep2d_diff_b1000_TRACEW")
        if adc_too:
            adc(tmp_path, number=7)
        native = check(tmp_path)
        assert any("joined" in note for note in native.notes) != adc_too

    def test_the_map_may_be_in_the_series_of_the_dwi(self, tmp_path):
        series = dwi(tmp_path, number=401)
        adc(tmp_path, number=401, series=series, first=100)
        assert not any("computed" in note for note in check(tmp_path).notes)

    def test_numbers_run_slice_by_slice(self, tmp_path):
        def number(data, image, level):
            data.InstanceNumber = 2 * level + image + 1

        dwi(tmp_path, change=number)
        check(tmp_path)

    def test_folders_that_are_links_and_files_without_a_preamble(self, tmp_path):
        dwi(tmp_path / "elsewhere")
        for path in (tmp_path / "elsewhere").iterdir():
            path.write_bytes(path.read_bytes()[132:])
        (tmp_path / "dicom").mkdir()
        os.symlink(tmp_path / "elsewhere", tmp_path / "dicom/IMG")
        os.symlink(tmp_path / "dicom", tmp_path / "elsewhere/loop")
        (tmp_path / "dicom/.DS_Store").write_bytes(b"")
        check(tmp_path / "dicom")

    @pytest.mark.parametrize(
        ("charset", "text"),
        [
            ("ISO_IR 192", "拡散 TRACEW"),
            (["", "ISO 2022 IR 87"], "拡散 TRACEW"),
            (["", "ISO 2022 IR 149"], "확산 TRACEW"),
            ("GB18030", "弥散 TRACEW"),
            ("ISO_IR 100", "Diffusion épaisse TRACEW"),
        ],
    )
    def test_descriptions_in_any_script(self, charset, text, tmp_path):
        def name(data, image, level):
            data.SpecificCharacterSet, data.SeriesDescription = charset, text

        dwi(tmp_path, change=name)
        assert text in check(tmp_path).dwi.path

    def test_a_description_that_cannot_be_decoded_stops_nobody(self, tmp_path):
        dwi(tmp_path)
        for path in tmp_path.iterdir():
            raw = path.read_bytes().replace(b"ep2d_diff_TRACEW", b"\xff\xfe\x80" + b"d" * 13)
            path.write_bytes(raw)
        check(tmp_path)


class TestLost:
    """Slices that are lost, doubled or elsewhere."""

    @pytest.mark.parametrize("number", [3, 0, None])
    @pytest.mark.parametrize("what", ["of one b-value", "of all", "of the ADC map"])
    def test_a_lost_slice_is_found_whatever_the_numbers(self, what, number, tmp_path):
        dwi(tmp_path, number=number)
        adc(tmp_path, number=number, first=1000)
        first = f"IM{number or 0:02d}"
        lost = {
            "of one b-value": [7], "of all": [7, 7 + SLICES], "of the ADC map": [1006]
        }[what]  # fmt: skip
        for k in lost:
            (tmp_path / f"{first}{k:04d}.dcm").unlink()
        assert "Slices are lost: export the series again" in refusal(tmp_path)

    def test_every_second_slice_lost_contradicts_the_scanner(self, tmp_path):
        dwi(tmp_path)
        for k in range(2, 2 * SLICES + 1, 2):
            (tmp_path / f"IM03{k:04d}.dcm").unlink()
        assert "Slices are lost" in refusal(tmp_path)

    def test_a_gap_written_in_place_of_the_distance_is_no_loss(self, tmp_path):
        def gap(data, image, level):
            data.SliceThickness, data.SpacingBetweenSlices = 7.0, 1.0

        dwi(tmp_path, change=gap)
        check(tmp_path)

    def test_a_copy_counts_once(self, tmp_path):
        dwi(tmp_path)
        shutil.copy(tmp_path / "IM030005.dcm", tmp_path / "copy.dcm")
        assert any(
            "copies of other files were left out (1)" in note for note in check(tmp_path).notes
        )

    def test_a_copy_of_another_identity_counts_once(self, tmp_path):
        dwi(tmp_path)
        data = pydicom.dcmread(tmp_path / "IM030005.dcm")
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
        data.InstanceNumber = 900
        data.save_as(tmp_path / "copy.dcm")
        assert any("1 slice is there twice" in note for note in check(tmp_path).notes)

    def test_two_different_images_of_one_slice_are_refused(self, tmp_path):
        dwi(tmp_path)
        data = pydicom.dcmread(tmp_path / "IM030005.dcm")
        pixels = data.pixel_array
        pixels[20:30] += 7
        data.PixelData = pixels.tobytes()
        data.save_as(tmp_path / "same.dcm")
        assert "has the identity" in refusal(tmp_path)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
        data.save_as(tmp_path / "same.dcm")
        message = refusal(tmp_path)
        assert "1 place has 2 images of one kind with different pixels (" in message
        assert "IM030005.dcm" in message and "same.dcm" in message and "lost" not in message

    def test_measurements_that_were_repeated_are_averaged(self, tmp_path):
        dwi(tmp_path, b_values=[0, 1000, 1000])
        native = check(tmp_path)
        assert native.b_value == 1000 and not any(".bvec" in text for text in native.warnings)

    def test_slices_beside_one_another_are_refused(self, tmp_path):
        def tilt(data, image, level):
            x, y, z = data.ImagePositionPatient
            data.ImagePositionPatient = [x, y + level, z]

        dwi(tmp_path, change=tilt)
        assert "beside one another" in refusal(tmp_path)

    def test_uneven_distances_are_refused(self, tmp_path):
        def stretch(data, image, level):
            x, y, z = data.ImagePositionPatient
            data.ImagePositionPatient = [x, y, z + 0.08 * level**1.5]

        dwi(tmp_path, change=stretch)
        assert "expected even distances" in refusal(tmp_path)

    def test_the_upper_slices_lost_from_the_dwi_are_a_warning(self, tmp_path):
        dwi(tmp_path)
        adc(tmp_path)
        for k in (SLICES - 2, SLICES - 1, SLICES, *range(2 * SLICES - 2, 2 * SLICES + 1)):
            (tmp_path / f"IM03{k:04d}.dcm").unlink()
        warnings = load_native(tmp_path).warnings
        assert any("do not show the same slices" in warning for warning in warnings)

    @pytest.mark.parametrize("how", ["empty", "truncated"])
    def test_a_damaged_file_is_named(self, how, tmp_path):
        dwi(tmp_path)
        path = tmp_path / "IM030007.dcm"
        path.write_bytes(b"" if how == "empty" else path.read_bytes()[:-500])
        assert "IM030007.dcm: the file ends too early" in refusal(tmp_path)

    def test_an_adc_map_on_another_grid_is_resampled(self, tmp_path):
        dwi(tmp_path)
        finer = HEAD.affine @ np.diag([0.5, 0.5, 1, 1])
        finer[:3, 3] -= finer[:3, :2].sum(axis=1) / 2  # a voxel's centre lies between its four
        twice = np.repeat(np.repeat(HEAD.adc_um2_per_s, 2, 0), 2, 1)
        write_series(tmp_path, [twice], finer, number=4, description="ADC", kind=MAP)
        assert any("resampled" in note for note in check(tmp_path, tolerance=0.05).notes)


class TestChoice:
    """Which series is taken, and who says so."""

    def test_series_are_told_apart_by_uid_not_by_number(self, tmp_path):
        dwi(tmp_path, number=1)
        adc(tmp_path, number=1, first=200)
        bright = HEAD.affine.copy()
        bright[2, 3] += 3
        write_series(tmp_path, [HEAD.s0[:, :, :9]], bright, number=1, description="t2_tse",
                     kind=PLAIN, first=400)  # fmt: skip
        source = check(tmp_path).dicom_source
        read = [pydicom.dcmread(path) for path in source.files]
        assert len(read) == SLICES
        assert {data.SeriesDescription for data in read} == {"ep2d_diff_TRACEW"}
        assert {int(data[0x0019, 0x100C].value) for data in read} == {1000}

    def test_two_scans_must_be_chosen_from(self, tmp_path):
        dwi(tmp_path)
        adc(tmp_path)
        other = dwi(tmp_path, number=13, description="follow-up TRACEW", b_values=[0, 900])
        adc(tmp_path, number=14, description="follow-up ADC")
        message = refusal(tmp_path)
        assert "2 DWI series: " in message and "--series" in message
        for chosen, b_value in (("3,4", 1000), ("follow-up", 900), (f"{other},14", 900)):
            assert check(tmp_path, Overrides(series=chosen)).b_value == b_value
        assert "no series is named '77'" in refusal(tmp_path, Overrides(series="77"))

    def test_a_dwi_named_alone_gives_its_own_adc_where_it_can(self, tmp_path):
        dwi(tmp_path)
        dwi(tmp_path, number=13, description="again")
        adc(tmp_path, scale=lambda image, level: (1.3, 0.0),
            change=lambda data, *_: delattr(data, "RescaleSlope"))  # fmt: skip
        native = check(tmp_path, Overrides(series="13"))
        assert any("names no ADC map, so none was taken (series 4" in n for n in native.notes)
        assert any("ADC computed from b = 0" in note for note in native.notes)

    def test_a_dwi_named_alone_without_b0_gets_the_one_map_of_its_scan(self, tmp_path):
        dwi(tmp_path, b_values=[1000])
        dwi(tmp_path, number=13, b_values=[1000], description="again")
        adc(tmp_path)
        native = check(tmp_path, Overrides(series="13"))
        assert any("ADC from series 4" in note for note in native.notes)

    @pytest.mark.parametrize("added", ["map", "b0"])
    @pytest.mark.parametrize(
        ("patient", "study", "stranger"),
        [
            ("P2", "1.2.3", True),
            ("P1", "1.2.4", True),
            ("P2", "", True),
            ("P1", "", False),
            ("P1", "1.2.3", False),
        ],
    )
    def test_what_nobody_named_is_of_the_patient_and_the_study(
        self, patient, study, stranger, added, tmp_path
    ):
        def anonymous(data, image, level):
            data.StudyInstanceUID = study if data.SeriesNumber == 8 else ("1.2.3" if study else "")
            if not study:
                del data.FrameOfReferenceUID

        dwi(tmp_path, b_values=[1000], change=anonymous)
        given = {"number": 8, "patient": patient, "study": study, "change": anonymous}
        if added == "map":
            adc(tmp_path, **given)
        else:
            dwi(tmp_path, b_values=[0], description="b0", **given)
        if not stranger:
            check(tmp_path, Overrides(series="3"))
            check(tmp_path)
            return
        message = refusal(tmp_path, Overrides(series="3"))
        assert "no ADC can be computed" in message
        assert "are of another patient or study: series 8" in message
        both = refusal(tmp_path, Overrides(series="3,8")) if patient == "P2" else ""
        assert "choose" not in both
        assert not both or "the series that --series names are of 2 patients (" in both

    def test_without_any_identity_a_map_counts_only_where_one_patient_is(self, tmp_path):
        def anonymous(data, image, level):
            data.StudyInstanceUID = ""
            del data.FrameOfReferenceUID

        dwi(tmp_path / "a", b_values=[1000], patient="", change=anonymous)
        adc(tmp_path / "a", patient="", change=anonymous)
        check(tmp_path / "a", Overrides(series="3"))
        for number, patient in ((13, "P1"), (23, "P2")):
            dwi(tmp_path / "a", number=number, b_values=[1000], patient=patient, change=anonymous)
        assert "no ADC can be computed" in refusal(tmp_path / "a", Overrides(series="3"))

    @pytest.mark.parametrize("kind", [["DERIVED", "SECONDARY", "OTHER"], MAP])
    @pytest.mark.parametrize(
        "text",
        ["ADC exp", "Exp. ADC", "ADC low b", "low-b ADC", "ADC fast (IVIM)", "slow ADC", "rADC",
         "ADC ratio", "ADC_exponential", "ADC fit error", "ADC colour"],
    )  # fmt: skip
    def test_other_maps_by_any_name_stop_nobody(self, text, kind, tmp_path):
        def group(folder):
            (found,) = grouped(read_folder(folder).frames)
            return found

        write_series(tmp_path, [HEAD.s0[:, :, :2]], HEAD.affine, number=4, description=text,
                     kind=kind)  # fmt: skip
        assert kind_of(group(tmp_path)) is not Kind.ADC
        if kind is MAP:  # what the DWI is called too is said of the scan
            assert kind_of(group(tmp_path), f"DWI {text}") is Kind.ADC

    def test_a_series_with_such_a_map_is_read(self, tmp_path):
        dwi(tmp_path)
        adc(tmp_path, description="ADC exp", kind=PLAIN, scale=lambda image, level: (0.5, 0.0),
            change=lambda data, *_: delattr(data, "RescaleSlope"))  # fmt: skip
        check(tmp_path)
        check(tmp_path, Overrides(series="3"))

    def test_a_description_with_a_comma_can_be_named(self, tmp_path):
        dwi(tmp_path, description="DWI, axial, 5 mm")
        dwi(tmp_path, number=9, description="DWI, cor", b_values=[0, 900])
        adc(tmp_path, description="map, ADC")
        for named, b_value in (
            ("DWI, axial, 5 mm", 1000), ("dwi,axial", 1000), ("DWI, cor", 900),
            ("DWI, cor, map, ADC", 900), ("3,4", 1000), ("axial,4", 1000),
        ):  # fmt: skip
            assert check(tmp_path, Overrides(series=named)).b_value == b_value
        assert "no series is named '7'" in refusal(tmp_path, Overrides(series="DWI, cor, 7"))

    @pytest.mark.parametrize(
        "names", [("Müller^Jürgen", "Mueller^Juergen"), ("A^B", "a  b"), ("Miller", "Smith")]
    )
    @pytest.mark.parametrize("ids", [("P1", "P1"), ("P1", "p1 "), ("P1", "P2"), ("", "")])
    def test_the_id_decides_who_it_is(self, ids, names, tmp_path):
        def name(data, image, level):
            data.SpecificCharacterSet = "ISO_IR 192"
            data.PatientID, data.PatientName = ids[image], names[image]

        write_series(tmp_path, [HEAD.s0[:, :, :1]] * 2, HEAD.affine, number=3, description="DWI",
                     kind=PLAIN, b_values=[0, 1000], change=name)  # fmt: skip
        one, other = (frame.head.patient for frame in read_folder(tmp_path).frames)
        same = ids[0] == "P1" == ids[1].strip().upper() or (not ids[0] and names[0] == "A^B")
        assert _one_patient(one, other) == same

    def test_shells_in_series_of_their_own_are_one_scan(self, tmp_path):
        dwi(tmp_path, number=5, b_values=[0], description="b0", kind=PLAIN)
        for number, b in ((6, 500), (7, 1000)):
            dwi(tmp_path, number=number, b_values=[b], description=f"b{b} TRACEW")
        native = check(tmp_path)
        assert native.b_value == 1000 and "series 7" in native.dwi.path

    def test_images_without_b_values_need_a_person(self, tmp_path):
        dwi(tmp_path, b_values=[1000], change=_without_b)
        adc(tmp_path)
        assert "name it with --series, and its b-value with --b_value" in refusal(tmp_path)
        native = check(tmp_path, Overrides(series="TRACEW", b_value=1000.0))
        assert native.b_value == 1000

    def test_two_images_without_b_values_are_never_averaged(self, tmp_path):
        dwi(tmp_path, change=_without_b)
        adc(tmp_path)
        message = refusal(tmp_path, Overrides(series="TRACEW", b_value=1000.0))
        assert "nothing says their b-values" in message

    def test_a_calculated_image_is_taken_only_alone_and_said(self, tmp_path):
        kind = ["DERIVED", "PRIMARY", "DIFFUSION", "CALC_BVALUE", "ND"]
        dwi(tmp_path, number=7, b_values=[1400], description="calc", kind=kind)
        adc(tmp_path)
        assert any("was calculated" in warning for warning in load_native(tmp_path).warnings)
        dwi(tmp_path)
        assert not check(tmp_path).warnings

    def test_other_maps_and_results_are_left_out(self, tmp_path):
        dwi(tmp_path)
        adc(tmp_path)
        write_series(tmp_path, [HEAD.s0], HEAD.affine, number=8, description="eADC", kind=PLAIN)
        write_series(tmp_path, [HEAD.s0], HEAD.affine, number=9, description="colFA",
                     kind=["DERIVED", "PRIMARY", "FA"])  # fmt: skip
        data = pydicom.dcmread(tmp_path / "IM030001.dcm")
        data.Modality, data.SeriesInstanceUID, data.SOPInstanceUID = "SEG", "1.9", "1.9.1"
        data.save_as(tmp_path / "seg.dcm")
        check(tmp_path)

    def test_a_study_for_each_image_is_one_study(self, tmp_path):
        def study(data, image, level):
            data.StudyInstanceUID = f"1.2.3.{image}"

        dwi(tmp_path, change=study)
        adc(tmp_path)
        check(tmp_path)

    def test_two_patients_and_two_studies_are_refused(self, tmp_path):
        dwi(tmp_path / "a")
        adc(tmp_path / "a", patient="P2")
        assert "holds files of 2 patients (" in refusal(tmp_path / "a")
        dwi(tmp_path / "b")
        adc(tmp_path / "b", study="9.9.9")
        assert "holds files of 2 studies (" in refusal(tmp_path / "b")

    def test_a_corrected_name_is_no_other_patient(self, tmp_path):
        def correct(data, image, level):
            data.PatientName = "p1^"

        dwi(tmp_path)
        adc(tmp_path, change=correct)
        check(tmp_path)

    def test_folders_that_cannot_serve_say_why(self, tmp_path):
        (tmp_path / "none").mkdir()
        (tmp_path / "none/notes.txt").write_text("no image")
        assert "holds no DICOM file" in refusal(tmp_path / "none")
        adc(tmp_path / "map")
        assert "no diffusion series with b-values" in refusal(tmp_path / "map")
        assert "found series 4, ep2d_diff_ADC (no b-value)" in refusal(tmp_path / "map")
        dwi(tmp_path / "flat")
        for path in (tmp_path / "flat").iterdir():
            data = pydicom.dcmread(path)
            del data.ImagePositionPatient
            data.save_as(path)
        assert "none is an MR image that says where it lies" in refusal(tmp_path / "flat")


def _without_b(data, image, level):
    del data[0x0019, 0x100C]


class TestContradictions:
    """What files say twice, or of the wrong thing."""

    @staticmethod
    def real_world(slope):
        def mapped(data, image, level):
            item = pydicom.Dataset()
            item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, 0.0
            data.RealWorldValueMappingSequence = [item]

        return mapped

    def test_a_scale_that_stands_as_real_world_value_only_is_the_displayed_one(self, tmp_path):
        def mapped(data, image, level):
            TestContradictions.real_world(0.7)(data, image, level)
            del data.RescaleSlope, data.RescaleIntercept

        dwi(tmp_path)
        adc(tmp_path, scale=lambda image, level: (0.7, 0.0), change=mapped)
        check(tmp_path)

    @pytest.mark.parametrize(("slope", "warns"), [(0.7, True), (1e-6, False), (0.75e-6, True)])
    def test_two_scales_are_said(self, slope, warns, tmp_path):
        dwi(tmp_path)
        adc(tmp_path, scale=lambda image, level: (1.0, 0.0),
            change=TestContradictions.real_world(slope))  # fmt: skip
        warnings = check(tmp_path).warnings
        assert any("two scales" in warning for warning in warnings) == warns

    def test_an_intercept_without_a_slope_counts(self, tmp_path):
        def only(data, image, level):
            del data.RescaleSlope

        dwi(tmp_path)
        adc(tmp_path, scale=lambda image, level: (1.0, 100.0), change=only)
        native = check(tmp_path)
        assert np.median(native.adc.data[native.brain]) < 900

    @pytest.mark.parametrize("moved_mm", [1.5, 8.0, 20.0])
    def test_images_of_one_series_may_lie_at_different_places(self, moved_mm, tmp_path):
        """The b = 0 image was written beside the other, where it truly is."""

        def move(data, image, level):
            if image == 0:
                x, y, z = data.ImagePositionPatient
                data.ImagePositionPatient = [x + moved_mm, y, z]

        dwi(tmp_path, change=move)
        native = load_native(tmp_path)
        core = core_of(native)
        centre = nib.affines.apply_affine(native.dwi.affine, np.argwhere(core).mean(axis=0))
        # ADC is off at edges, for b = 0 shows the head elsewhere; the DWI stays where it is.
        np.testing.assert_allclose(centre, HEAD.core_centre_mm, atol=moved_mm / 2 + 1)

    def test_b0_of_another_grid_is_brought_to_the_dwi(self, tmp_path):
        lower = HEAD.affine.copy()
        lower[:3, 3] += [0.3, 0, 0]
        write_series(tmp_path, [HEAD.image(0)], lower, number=5, description="b0",
                     kind=PLAIN, b_values=[0])  # fmt: skip
        dwi(tmp_path, number=6, b_values=[1000])
        native = check(tmp_path, tolerance=0.1)
        assert any("resampled" in note for note in native.notes)
        assert check(tmp_path, Overrides(series="6"), tolerance=0.1).b_value == 1000

    def test_two_series_of_b0_must_be_chosen_from(self, tmp_path):
        for number in (4, 5):
            dwi(tmp_path, number=number, b_values=[0], description=f"b0 {number}", kind=PLAIN)
        dwi(tmp_path, number=6, b_values=[1000])
        assert "several series have one (series 4, b0 4; series 5, b0 5)" in refusal(tmp_path)
        check(tmp_path, Overrides(series="6,5"))

    @pytest.mark.parametrize("thick_mm", [8.0, 5.0])
    def test_slices_lost_where_nothing_says_their_distance(self, thick_mm, tmp_path):
        def silent(data, image, level):
            del data.SpacingBetweenSlices
            data.SliceThickness = thick_mm

        dwi(tmp_path, change=silent)
        for k in range(2, 2 * SLICES + 1, 2):
            (tmp_path / f"IM03{k:04d}.dcm").unlink()
        assert any("are slices lost?" in warning for warning in load_native(tmp_path).warnings)

    def test_directional_without_a_vector_is_one_direction(self, tmp_path):
        def nameless(data, image, level):
            if image:
                del data[0x0019, 0x100C]
                del data[0x0019, 0x100E]
                data.SequenceName = "*ep_b1000#1"

        write_series(
            tmp_path, [HEAD.image(0), HEAD.image(1000)], HEAD.affine, number=4,
            description="ep2d_diff_3scan_trace_p2", kind=PLAIN, b_values=[0, 1000],
            directions=[TRACE, AXES[0]], change=nameless,
        )  # fmt: skip
        assert "1 direction that no file names" in refusal(tmp_path)

    @pytest.mark.parametrize(
        "text", ["AX DWI + ADC", "DWI fast (FA 90)", "diffusion tensor 12 dir", "eDWI"]
    )
    def test_a_description_does_not_make_a_map_of_two_weightings(self, text, tmp_path):
        dwi(tmp_path, description=text, kind=PLAIN, maker="Philips")
        check(tmp_path)

    @pytest.mark.parametrize(
        "text", ["ADCmap", "isoADC", "dADC", "DWI_ADCs", "Average DC", "Apparent Diffusion Coef",
                 "Coef. diffusion apparent", "ADC (10^-6 mm^2/s)"],
    )  # fmt: skip
    @pytest.mark.parametrize("with_exponential", [False, True])
    def test_adc_maps_by_any_name(self, text, with_exponential, tmp_path):
        dwi(tmp_path, b_values=[1000])
        adc(tmp_path, description=text, kind=PLAIN)
        if with_exponential:
            adc(tmp_path, number=9, description="exp ADC", kind=PLAIN)
        check(tmp_path)

    def test_a_map_of_no_known_name_is_named_by_a_person(self, tmp_path):
        dwi(tmp_path, b_values=[1000])
        adc(tmp_path, description="Karte 7", kind=PLAIN)
        message = refusal(tmp_path)
        assert "no ADC can be computed" in message and "--series=3,4 for instance" in message
        assert ".bval" not in message and "series 4, Karte 7" in message
        check(tmp_path, Overrides(series="3,4"))

    def test_b_values_that_are_wrong_are_overruled(self, tmp_path):
        dwi(tmp_path, b_values=[0, 200], change=None)
        for path in tmp_path.glob("IM03*"):
            data = pydicom.dcmread(path)
            if int(data[0x0019, 0x100C].value):
                data.PixelData = (
                    HEAD.image(1000)[:, :, (int(data.InstanceNumber) - 1) % SLICES]
                    .T.round().astype("<u2").tobytes()
                )  # fmt: skip
                data.save_as(path)
        native = check(tmp_path, Overrides(series="3", b_value=1000.0))
        assert any("its files say 200" in warning for warning in native.warnings)

    @pytest.mark.parametrize("where", ["dwi", "adc"])
    def test_nan_of_float_pixels_is_background(self, where, tmp_path):
        def floats(data, image, level):
            values = data.pixel_array.astype("<f4")
            values[0, :] = np.nan
            data.FloatPixelData = values.tobytes()
            data.BitsAllocated = data.BitsStored = 32
            del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation

        dwi(tmp_path, change=floats if where == "dwi" else None)
        adc(tmp_path, change=floats if where == "adc" else None)
        native = check(tmp_path)
        assert any("NaN" in note for note in native.notes)

    @pytest.mark.parametrize(
        ("keyword", "value", "refused"),
        [
            ("SeriesInstanceUID", None, "SeriesInstanceUID is absent"),
            ("PixelSpacing", None, "PixelSpacing is absent"),
            ("SOPInstanceUID", None, None),
            ("InstanceNumber", None, None),
            ("SeriesNumber", None, None),
            ("SpacingBetweenSlices", -8.0, None),
            ("PatientID", "", None),
        ],
    )
    def test_what_is_hardly_needed_may_be_absent(self, keyword, value, refused, tmp_path):
        def change(data, image, level):
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)

        dwi(tmp_path, change=change)
        if refused:
            assert refused in refusal(tmp_path)
        else:
            check(tmp_path)

    @pytest.mark.parametrize(
        ("keyword", "value", "shown"),
        [
            ("PixelSpacing", [0, 0], r"0\0; expected 0.3 to 12 mm"),
            ("PixelSpacing", ["nan", "nan"], r"nan\nan; expected"),
            ("PixelSpacing", [-4, 4], r"-4\4; expected"),
            ("PixelSpacing", [4000, 4000], r"4000\4000; expected"),
            ("PixelSpacing", [0.004, 0.004], r"0.004\0.004; expected"),
            ("ImageOrientationPatient", [0] * 6, r"0\0\0\0\0\0; expected two directions"),
            ("ImageOrientationPatient", [2, 0, 0, 0, 2, 0], r"2\0\0\0\2\0; expected"),
            ("ImageOrientationPatient", [1, 0, 0, 0.3, 0.954, 0], r"1\0\0\0.3\0.954\0; exp"),
            ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], r"1\0\0\1\0\0; expected"),
            ("ImageOrientationPatient", ["nan"] * 6, r"nan\nan\nan\nan\nan\nan; expected"),
            ("ImagePositionPatient", [0, 0, "nan"], r"0\0\nan; expected a place"),
            ("ImagePositionPatient", [0, "inf", 0], r"0\inf\0; expected a place"),
        ],
    )
    def test_a_size_or_place_that_cannot_be_names_attribute_and_file(
        self, keyword, value, shown, tmp_path, recwarn
    ):
        def change(data, image, level):
            data[keyword] = pydicom.DataElement(
                keyword, "DS", value, validation_mode=pydicom.config.IGNORE
            )

        dwi(tmp_path, change=change)
        scan = read_folder(tmp_path)
        with pytest.raises(InputError) as error:
            build("DICOM", grouped(scan.frames)[0])
        assert f"IM030001.dcm: its {keyword} is {shown}" in str(error.value)
        assert not recwarn.list

    def test_a_position_of_two_numbers_names_the_file(self, tmp_path):
        def change(data, image, level):
            data.ImagePositionPatient = [1.0, 2.0]

        dwi(tmp_path, change=change)
        message = refusal(tmp_path)
        assert "IM030001.dcm: an attribute is absent or cannot be read" in message

    def test_an_empty_log_stops_nobody(self, tmp_path):
        dwi(tmp_path)
        (tmp_path / "export.log").write_bytes(b"")
        check(tmp_path)

    def test_a_study_and_a_frame_of_reference_for_each_series_need_a_person(self, tmp_path):
        dwi(tmp_path, study="1.2.3")
        adc(tmp_path, study="1.2.4")
        assert "2 studies" in refusal(tmp_path)
        native = check(tmp_path, Overrides(series="3,4"))
        assert any("were taken for one" in warning for warning in native.warnings)
