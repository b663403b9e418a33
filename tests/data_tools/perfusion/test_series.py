"""Raw perfusion series as NIfTI and as every vendor's DICOM, against what was written."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest
from helpers import dsc_dicom

from data_tools.perfusion.series import load_series
from data_tools.runtime.errors import InputError
from data_tools.simulate.dsc_dicom import write_enhanced

pytestmark = pytest.mark.quick

AFFINE = np.array([[-3.0, 0, 0, 20], [0, 2.9, 0.7, -30], [0, -0.3, 6, 5], [0, 0, 0, 1]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    repetition_time_s: float = 1.6
    echo_time_s: float = 0.03
    fault: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """What the helpers write of a simulated scan, small and all different."""

    signal: np.ndarray
    affine: np.ndarray
    times_s: np.ndarray
    slice_times_s: np.ndarray
    scan: Scan = Scan()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    signal = rng.integers(100, 900, (6, 5, 4, 12)).astype(np.float32)
    times_s = np.arange(12) * 1.6
    affine = AFFINE.copy()
    affine[:3, :3] = np.linalg.qr(AFFINE[:3, :3])[0] * (3.0, 2.9, 6.0)
    return Images(
        signal=signal, affine=affine, times_s=times_s, slice_times_s=np.array([0.8, 0, 1.2, 0.4])
    )


def check(found, images, *, slice_times=True):
    """The series is the one that was written, whichever way its files turn the axes."""
    there = np.linalg.inv(images.affine) @ found.affine
    index = np.indices(found.signal.shape[:3]).reshape(3, -1)
    source = np.rint(there[:3, :3] @ index + there[:3, 3:]).astype(int)
    np.testing.assert_array_equal(
        found.signal.reshape(-1, found.signal.shape[3]), images.signal[tuple(source)]
    )
    assert found.signal.dtype == np.float32 and found.echo_time_s == pytest.approx(0.03)
    np.testing.assert_allclose(found.times_s, images.times_s, atol=1e-3)
    if slice_times:
        z = source[2].reshape(found.signal.shape[:3])[0, 0]
        np.testing.assert_allclose(found.slice_times_s, images.slice_times_s[z], atol=1e-3)


def write_nifti(folder, images, *, five=False, **changes):
    data = images.signal[:, :, :, None] if five else images.signal
    nib.save(nib.Nifti1Image(data, images.affine), folder / "s_dsc.nii.gz")
    known = {
        "RepetitionTime": 1.6, "EchoTime": 0.03, "SliceTiming": images.slice_times_s.tolist()
    } | changes  # fmt: skip
    known = {key: value for key, value in known.items() if value is not None}
    (folder / "s_dsc.json").write_text(json.dumps(known))
    return folder / "s_dsc.nii.gz"


@pytest.mark.parametrize("five", [False, True])
def test_nifti_with_its_sidecar(images, tmp_path, five):
    check(load_series(write_nifti(tmp_path, images, five=five)), images)


def test_times_of_each_frame_and_reversed_slices(images, tmp_path):
    times_s = np.cumsum([5.0, *np.tile([1.5, 1.7], 6)])[:12]
    path = write_nifti(
        tmp_path, images, RepetitionTime=None, VolumeTiming=times_s.tolist(),
        SliceEncodingDirection="k-",
    )  # fmt: skip
    found = load_series(path)
    np.testing.assert_allclose(found.times_s, times_s - 5)
    np.testing.assert_array_equal(found.slice_times_s, images.slice_times_s[::-1])


def test_what_a_person_says_wins_and_is_compared(images, tmp_path):
    path = write_nifti(tmp_path, images)
    found = load_series(path, tr_s=2.0, te_s=0.03)
    assert found.times_s[1] == 2.0
    assert (
        found.warnings and "TR is 2 s by --tr_s, which was taken, and 1.6 s by" in found.warnings[0]
    )
    (tmp_path / "s_dsc.json").unlink()
    found = load_series(path, tr_s=1.6, te_s=0.03)
    check(found, images, slice_times=False)
    assert found.slice_times_s is None and "nothing says when each slice" in found.notes[-1]


@pytest.mark.parametrize("five", [False, True])
def test_the_headers_own_tr_is_compared_and_never_taken(images, tmp_path, five):
    path = write_nifti(tmp_path, images, five=five)

    def with_header(step, unit):
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        image.header.set_xyzt_units("mm", unit)
        image.header["pixdim"][5 if five else 4] = step
        nib.save(nib.Nifti1Image(data, None, image.header), path)

    for step, unit in ((1.6, "sec"), (1600, "msec"), (0, "sec"), (1, "sec"), (2.2, "unknown")):
        with_header(step, unit)
        assert load_series(path).warnings == ()
    with_header(2200, "msec")
    (warning,) = load_series(path).warnings
    assert "TR is 1.6 s by" in warning and "and 2.2 s by the image's header" in warning
    path.with_name("s_dsc.json").write_text('{"EchoTime": 0.03}')
    with pytest.raises(InputError, match="--tr_s=SECONDS.*header says 2.2 s, which may be wrong"):
        load_series(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RepetitionTime": None}, r"TR is not known.*no RepetitionTime in .*--tr_s=SECONDS"),
        ({"EchoTime": None}, r"TE is not known.*--te_s=SECONDS"),
        ({"RepetitionTime": 1600}, r"is 1600; expected 0.2 to 6, in seconds. If .* write 1.6"),
        ({"EchoTime": 30}, r"EchoTime .* is 30; .* write 0.03"),
        ({"EchoTime": "fast"}, "is 'fast'; expected"),
        ({"SliceTiming": [0, 1]}, "has 2 times; expected one for each slice along k, 4"),
        ({"SliceTiming": [0, 400, 800, 1200]}, "expected seconds within a frame, 0 to 1.6"),
        ({"SliceTiming": ["a"] * 4}, "not a list of numbers; expected one time"),
        ({"SliceEncodingDirection": "x"}, "is 'x'; expected i, j or k"),
        (
            {"SliceEncodingDirection": "i"},
            r"each slice along i, 6\. Noticed before: .* 3 x 2.9 x 6 mm are thickest along k",
        ),
        ({"RepetitionTime": None, "VolumeTiming": [0, 1]}, "has 2 times; expected one for each fr"),
        ({"RepetitionTime": None, "VolumeTiming": [1.0] * 12}, "expected increasing times"),
    ],
)  # fmt: skip
def test_sidecars_that_cannot_be_are_refused(images, tmp_path, changes, message):
    path = write_nifti(tmp_path, images, **changes)
    with pytest.raises(InputError, match=message):
        load_series(path)


@pytest.mark.parametrize("axes", [(2, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("said", [True, False])
def test_slices_along_another_axis_are_turned_and_turned_back(images, tmp_path, axes, said):
    turned = dataclasses.replace(
        images,
        signal=images.signal.transpose(*axes, 3),
        affine=images.affine[:, [*axes, 3]],
    )
    direction = "ijk"[axes.index(2)] if said else None
    path = write_nifti(tmp_path, turned, SliceEncodingDirection=direction)
    found = load_series(path)
    check(found, images)
    assert found.signal.shape[2] == 4 and found.warnings == ()
    np.testing.assert_array_equal(found.slice_times_s, images.slice_times_s)
    stored = found.as_stored(found.signal[..., 0])
    np.testing.assert_array_equal(stored, turned.signal[..., 0])
    np.testing.assert_allclose(found.stored_affine, turned.affine, atol=1e-5)
    np.testing.assert_array_equal(found.from_stored(stored), found.signal[..., 0])


def test_slices_of_cubic_voxels_are_the_third_axis(images, tmp_path):
    affine = np.diag([3.0, 3.0, 3.3, 1])
    cubic = dataclasses.replace(images, affine=affine)
    assert load_series(write_nifti(tmp_path, cubic)).axes == (0, 1, 2)
    said = write_nifti(tmp_path, cubic, SliceEncodingDirection="i", SliceTiming=None)
    found = load_series(said)
    assert found.axes == (1, 2, 0) and found.warnings == ()


def test_what_was_noticed_is_in_the_refusal(images, tmp_path):
    path = write_nifti(tmp_path, images)
    with pytest.raises(InputError, match=r"0 to 1\. Noticed before: TR is 1 s by --tr_s, which"):
        load_series(path, tr_s=1.0)


def test_a_spoilt_volume_is_told(images, tmp_path):
    rng = np.random.default_rng(0)
    still = 500 + rng.normal(0, 1, images.signal.shape).astype(np.float32)
    still[..., 9] = np.nan
    spoilt = dataclasses.replace(images, signal=still)
    (told,) = load_series(write_nifti(tmp_path, spoilt)).warnings
    assert "volume 10 of 12 is empty; it was filled in" in told
    still[2, 2, 2, 4:7] = np.inf
    holes, _ = load_series(write_nifti(tmp_path, spoilt)).warnings
    assert "s_dsc.nii.gz: 1 voxel holds NaN or infinity in some volumes" in holes
    still[..., 3:5] = 0
    with pytest.raises(InputError, match="3 volumes are spoilt, and 2 can be filled in: volume 4"):
        load_series(write_nifti(tmp_path, spoilt), tr_s=1.6)


def test_images_that_are_no_series_are_refused(images, tmp_path):
    few = dataclasses.replace(images, signal=images.signal[..., :3])
    with pytest.raises(InputError, match="has shape 6 x 5 x 4 x 3; expected a series over time"):
        load_series(write_nifti(tmp_path, few))
    for part, why in (((..., 0), "one volume"), ((..., slice(1), slice(None)), "a single slice")):
        path = write_nifti(tmp_path, dataclasses.replace(images, signal=images.signal[part]))
        with pytest.raises(InputError, match=f"{why}; expected a series over time"):
            load_series(path)
    same = dataclasses.replace(images, signal=np.repeat(images.signal[..., :1], 12, axis=3))
    with pytest.raises(InputError, match="all 12 frames are equal"):
        load_series(write_nifti(tmp_path, same))
    dark = dataclasses.replace(images, signal=np.zeros_like(images.signal))
    with pytest.raises(InputError, match="no voxel is brighter than 0"):
        load_series(write_nifti(tmp_path, dark))
    with pytest.raises(InputError, match="no such file"):
        load_series(tmp_path / "absent.nii")
    (tmp_path / "one.dcm").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(
        InputError, match="is a DICOM file; expected the folder that holds the scan"
    ):
        load_series(tmp_path / "one.dcm")
    with pytest.raises(InputError, match=r"--tr_s is 1500; expected 0.2 to 6, in seconds"):
        load_series(tmp_path / "absent.nii", tr_s=1500)


@pytest.mark.parametrize("vendor", ["siemens", "ge", "philips", "plain"])
@pytest.mark.parametrize("by_slice", [False, True])
def test_classic_dicom_of_every_vendor(images, tmp_path, vendor, by_slice):
    dsc_dicom.write_classic(tmp_path, images, vendor, by_slice=by_slice)
    check(load_series(tmp_path), images, slice_times=vendor in ("siemens", "ge"))


def test_slice_times_are_kept_where_frames_start_at_whole_seconds(images, tmp_path):
    whole = dataclasses.replace(
        images, times_s=np.arange(12) * 2.0, scan=Scan(repetition_time_s=2.0)
    )
    dsc_dicom.write_classic(tmp_path, whole)
    check(load_series(tmp_path), whole)


def test_mosaics_and_enhanced_files(images, tmp_path):
    dsc_dicom.write_mosaics(tmp_path / "mosaic", images)
    check(load_series(tmp_path / "mosaic"), images)
    write_enhanced(tmp_path / "enhanced" / "all.dcm", images, "sub-0001", 3.0)
    check(load_series(tmp_path / "enhanced"), images)


def test_order_is_that_of_time_and_not_of_numbers(images, tmp_path):
    def scrambled(data, image, level):
        data.InstanceNumber = 1 + (7 * (image * 4 + level)) % 48

    dsc_dicom.write_classic(tmp_path, images, change=scrambled)
    found = load_series(tmp_path)
    check(found, images)
    assert "order of frames is that of AcquisitionTime" in " ".join(found.notes)


def test_uneven_times_are_kept_and_another_tr_is_told(images, tmp_path):
    uneven = dataclasses.replace(
        images, times_s=np.cumsum(np.tile([2.0, 2.3], 6)), slice_times_s=np.zeros(4)
    )
    dsc_dicom.write_classic(tmp_path, uneven)
    found = load_series(tmp_path)
    np.testing.assert_allclose(found.times_s, uneven.times_s - 2, atol=1e-3)
    assert "and TR is 1.6 s" in found.warnings[0]


def test_a_last_frame_that_was_cut_off_is_left_out(images, tmp_path):
    dsc_dicom.write_classic(tmp_path, images, "siemens")
    files = sorted(tmp_path.glob("*.dcm"))
    files[-1].unlink()
    found = load_series(tmp_path)
    assert found.signal.shape[3] == 11 and "not whole" in " ".join(found.notes)
    files[9].unlink()
    with pytest.raises(InputError, match="Slices are lost"):
        load_series(tmp_path)


@pytest.mark.parametrize("vendor", ["siemens", "ge", "philips", "plain"])
@pytest.mark.parametrize("lost", [(9,), (9, 18), (0, 5, 10, 15)])
def test_lost_slices_are_refused(images, tmp_path, vendor, lost):
    dsc_dicom.write_classic(tmp_path, images, vendor)
    files = sorted(tmp_path.glob("*.dcm"))
    for k in lost:
        files[k].unlink()
    with pytest.raises(InputError, match="Slices are lost"):
        load_series(tmp_path)


def without(keyword, also=()):
    def change(data, image, level):
        for each in (keyword, *also):
            if each in data:
                delattr(data, each)

    return change


def numbered_alike(data, image, level):
    data.InstanceNumber = 1


def two_echoes(data, image, level):
    data.EchoTime = 15 if image % 2 else 40


@pytest.mark.parametrize(
    ("vendor", "change", "message"),
    [
        ("plain", without("RepetitionTime"), r"TR is not known.*--tr_s=SECONDS"),
        ("siemens", without("EchoTime"), r"TE is not known.*--te_s=SECONDS"),
        ("plain", numbered_alike, "nothing in its files tells in which order"),
        ("plain", two_echoes, r"holds 2 echoes \(0.015, 0.04 s\).*--te_s"),
    ],
)
def test_dicom_without_its_times_is_refused(images, tmp_path, vendor, change, message):
    longer = dataclasses.replace(
        images, signal=np.concatenate([images.signal] * 2, axis=3), times_s=np.arange(24) * 1.6
    )
    dsc_dicom.write_classic(tmp_path, longer, vendor, change=change)
    with pytest.raises(InputError, match=message):
        load_series(tmp_path)


def test_one_scan_over_time_is_chosen(images, tmp_path):
    few = dataclasses.replace(images, signal=images.signal[..., :3])
    dsc_dicom.write_classic(tmp_path / "few", few)
    with pytest.raises(InputError, match="holds no scan over time .*ep2d_perf"):
        load_series(tmp_path)
    dsc_dicom.write_classic(tmp_path / "one", images)
    check(load_series(tmp_path), images)
    dsc_dicom.write_classic(tmp_path / "other", images)
    with pytest.raises(InputError, match="holds 2 scans over time"):
        load_series(tmp_path)
    with pytest.raises(InputError, match="no series is named 'flair'"):
        load_series(tmp_path, series="flair")
