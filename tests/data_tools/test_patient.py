"""One patient: checks, units, registration, and left stays left in every orientation."""

import dataclasses
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to
from scipy.spatial.transform import Rotation

from data_tools import ants_bridge, grid, patient, registration
from data_tools.cohort import find_raw_files
from data_tools.overrides import Overrides
from data_tools.runtime.errors import InputError
from data_tools.simulate.cohort import truth_path
from data_tools.transform import Transform
from data_tools.volumes import load_volume, save_volume


@pytest.fixture
def files(raw_cohort, tmp_path):
    """Simulated patient 1: copies that a test may damage; keys dwi, adc, tmax."""
    found, _ = find_raw_files(raw_cohort, "sub-0001")
    paths = {"dwi": found.dwi, "adc": found.adc, "tmax": found.tmax}
    return {name: shutil.copy(path, tmp_path / f"{name}.nii.gz") for name, path in paths.items()}


@pytest.fixture(scope="module")
def native(raw_cohort):
    found, _ = find_raw_files(raw_cohort, "sub-0001")
    return patient.load_native(found.dwi, found.adc, found.tmax)


@pytest.fixture(scope="module")
def true_matrix(raw_cohort):
    """What the simulation knows: scanner mm -> MNI mm."""
    return np.array(json.loads(truth_path(raw_cohort, 1, "native").read_text())["native_to_mni"])


@pytest.fixture(scope="module")
def registered(native):
    """The one registration that most tests share."""
    return patient.to_mni(native)


def brain_points_mm(native):
    return nib.affines.apply_affine(native.dwi.affine, np.argwhere(native.brain))


def distances_mm(matrix, other, points_mm):
    apart = nib.affines.apply_affine(matrix, points_mm) - nib.affines.apply_affine(other, points_mm)
    return np.linalg.norm(apart, axis=1)


def change(path, function):
    volume = load_volume(path)
    save_volume(path, function(volume.data), volume.affine)


def turned(path, codes):
    """Store the same image with other voxel axes, by nibabel."""
    image = nib.load(path)
    to = nib.orientations.axcodes2ornt(codes)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), to)
    image = image.as_reoriented(turn)
    save_volume(path, image.get_fdata(), image.affine)


@pytest.mark.parametrize(
    ("factor", "unit"), [(1, "mm2/s"), (1e3, "1e-3 mm2/s"), (1e6, "1e-6 mm2/s")]
)
def test_adc_is_the_same_whatever_the_files_unit(files, native, factor, unit):
    change(files["adc"], lambda data: data * factor)
    loaded = patient.load_native(**files)
    assert loaded.adc_unit == unit
    np.testing.assert_allclose(loaded.adc.data, native.adc.data, rtol=1e-5)
    np.testing.assert_array_equal(loaded.brain, native.brain)


def nan_at_the_centre(data):
    data[64, 64, 10] = np.nan
    return data


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("adc", lambda data: data * 50, "no plausible ADC in any of mm2/s"),
        ("adc", lambda data: data[:, :, :-8], "ADC .* holds nothing in . of the slices"),
        ("dwi", nan_at_the_centre, "DWI .* 1 voxel is NaN or infinite inside the brain"),
        ("adc", nan_at_the_centre, "ADC .* 1 voxel is NaN or infinite inside the brain"),
        ("tmax", nan_at_the_centre, "Tmax .* 1 voxel is NaN or infinite inside the brain"),
        ("dwi", lambda data: np.stack([data, data], -1), "DWI .* holds 2 images; expected .*bval"),
        ("adc", lambda data: data * 0, "ADC .* the image is empty"),
        (
            "adc",
            lambda data: data[::-1] * (np.arange(128) < 64)[:, None, None],
            "ADC .* is above 0",
        ),
        (
            "dwi",
            lambda data: data * (np.arange(data.shape[2]) != 9),
            "DWI .* 1 slice is empty",
        ),
        (
            "adc",
            lambda data: data * (np.arange(data.shape[2]) != 9),
            "ADC .* holds nothing in 1 of the slices in which DWI",
        ),
        ("tmax", lambda data: np.minimum(data * 10, 90), "Tmax .* tenths of seconds"),
        ("tmax", lambda data: data * 1000, "Tmax .* Values in ms must be divided by 1000"),
        ("tmax", lambda data: data / 1000, "Tmax .* expected seconds"),
    ],
)
def test_a_bad_image_is_one_message(files, name, function, message):
    change(files[name], function)
    loaded, faults = patient.examine(**files)
    assert loaded is None
    assert len(faults) == 1
    with pytest.raises(InputError, match=message):
        patient.load_native(**files)


def test_swapped_images_are_named(files):
    with pytest.raises(InputError, match="look swapped: .* Exchange the two files"):
        patient.load_native(files["adc"], files["dwi"])


def test_an_adc_map_whose_sidecar_says_another_unit_is_refused(files):
    beside = Path(str(files["adc"]).replace(".nii.gz", ".json"))
    beside.write_text('{"Units": "mm^2/s"}')
    patient.load_native(**files)
    beside.write_text('{"Units": "um^2/s"}')
    with pytest.raises(
        InputError, match="ADC .* its .json says 'um\\^2/s', and the values .* mm2/s"
    ):
        patient.load_native(**files)


def test_the_same_file_twice_is_named(files):
    with pytest.raises(InputError, match="DWI and ADC are the same file"):
        patient.load_native(files["dwi"], files["dwi"])


def test_a_brain_of_half_the_size_is_refused(files):
    for name in ("dwi", "adc"):
        volume = load_volume(files[name])
        save_volume(files[name], volume.data, volume.affine * [0.6, 0.6, 0.6, 1])
    with pytest.raises(InputError, match=r"has \d+ mL; expected 500 to 2200 mL"):
        patient.load_native(**files)


def test_faults_of_all_files_come_together(files, tmp_path):
    change(files["tmax"], lambda data: data * 1000)
    files["dwi"] = tmp_path / "absent.nii.gz"
    change(files["adc"], lambda data: data * 0)
    _, faults = patient.examine(**files, truth=tmp_path / "no mask.nii.gz")
    wanted = ["DWI ", "ADC ", "Tmax ", "hypoperfusion mask "]
    assert len(faults) == 4
    assert all(any(fault.startswith(word) for fault in faults) for word in wanted)


def test_a_given_brain_mask_takes_the_place_of_the_found_one(files, native, tmp_path):
    finer = native.dwi.affine @ np.diag([0.5, 0.5, 1, 1])
    finer[:3, 3] -= native.dwi.affine[:3, :2].sum(axis=1) / 4
    for share, warns in ((1.0, False), (0.7, True)):
        slices = np.arange(native.brain.shape[2]) < share * native.brain.shape[2]
        wanted = native.brain & slices
        data = np.repeat(np.repeat(wanted, 2, 0), 2, 1)
        save_volume(tmp_path / "brain.nii.gz", data, finer)
        said = Overrides(brain_mask=str(tmp_path / "brain.nii.gz"))
        got = patient.load_native(files["dwi"], files["adc"], overrides=said)
        np.testing.assert_array_equal(got.brain, wanted)
        assert got.overrides == {"brain_mask": str(tmp_path / "brain.nii.gz")}
        assert any("the brain mask that was given has" in w for w in got.warnings) == warns
    save_volume(tmp_path / "brain.nii.gz", native.brain & (slices > 99), native.dwi.affine)
    with pytest.raises(InputError, match="the brain mask .*brain.nii.gz has 0 mL; expected 500"):
        patient.load_native(files["dwi"], files["adc"], overrides=said)


def test_a_said_unit_outdoes_the_sidecar_with_a_warning(files):
    Path(str(files["adc"]).replace(".nii.gz", ".json")).write_text('{"Units": "um^2/s"}')
    got = patient.load_native(files["dwi"], files["adc"], overrides=Overrides(adc_unit="mm2/s"))
    assert got.adc_unit == "mm2/s"
    assert any("its .json says 'um^2/s'" in w and "was taken" in w for w in got.warnings)
    with pytest.raises(InputError, match="as --adc_unit says, the median in brain tissue is"):
        patient.load_native(
            files["dwi"], files["adc"], overrides=Overrides(adc_unit="1e-3 mm2/s")
        )  # fmt: skip


def test_nan_around_the_head_changes_nothing(files, native):
    for name in ("dwi", "adc"):
        image = nib.load(files[name])
        data = np.where(native.adc.data > 0, image.get_fdata(), np.nan).astype(np.float32)
        save_volume(files[name], data, image.affine)
    got = patient.load_native(files["dwi"], files["adc"])
    np.testing.assert_array_equal(got.adc.data, native.adc.data)
    counts = f"{(native.adc.data <= 0).sum()} of {native.adc.data.size} voxels are NaN"
    assert [note for note in got.notes if counts in note][0].startswith("DWI: ")


def test_registration_recovers_the_simulated_transform(native, registered, true_matrix):
    # Tolerance: 4 mm in the median. The simulated head is bent as well, which no affine undoes.
    points = brain_points_mm(native)
    found = registered[0].transform.affine
    error_mm = distances_mm(found, true_matrix, points)
    assert np.median(error_mm) < 4
    assert np.percentile(error_mm, 95) < 9
    shift_mm = nib.affines.apply_affine(found, points).mean(axis=0)
    shift_mm -= nib.affines.apply_affine(true_matrix, points).mean(axis=0)
    assert np.abs(shift_mm).max() < 2
    # Without any registration the error is far larger, so the bounds above say something.
    assert np.median(distances_mm(np.eye(4), true_matrix, points)) > 8


def test_registration_gives_the_same_bits_again(native, registered):
    again = registration.register(native.dwi, native.adc.data, native.brain)
    np.testing.assert_array_equal(again.transform.affine, registered[0].transform.affine)


def test_a_good_fit_needs_no_ants(native, registered, monkeypatch):
    def refuse():
        raise AssertionError("ANTs is asked")

    monkeypatch.setattr(ants_bridge, "_ants", refuse)
    fit = registration.register(native.dwi, native.adc.data, native.brain)
    assert (fit.kind, fit.strategy, fit.fitted_by) == ("affine", "tissue", "gauss-newton")
    assert registered[1].registration.fitted_by == "gauss-newton"
    with pytest.raises(AssertionError, match="ANTs is asked"):
        registration.register(native.dwi, native.adc.data, native.brain, kind="ants")


def test_ants_fits_the_same_to_a_millimetre(native, registered):
    fit = registration.register(native.dwi, native.adc.data, native.brain, kind="ants")
    assert (fit.kind, fit.strategy, fit.fitted_by) == ("ants", "tissue", "ants")
    apart_mm = distances_mm(
        fit.transform.affine, registered[0].transform.affine, brain_points_mm(native)
    )
    assert np.median(apart_mm) < 1
    assert apart_mm.max() < 4


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [-12, 12])
def test_the_pose_of_a_head_changes_nothing(native, registered, axis, degrees):
    turn = Rotation.from_euler("xyz"[axis], degrees, degrees=True).as_matrix()
    pose = nib.affines.from_matvec(turn, np.roll([60.0, -60, 60], axis))
    dwi = dataclasses.replace(native.dwi, affine=pose @ native.dwi.affine)
    fit = registration.register(dwi, native.adc.data, native.brain)
    found = fit.transform.affine @ pose
    apart_mm = distances_mm(found, registered[0].transform.affine, brain_points_mm(native))
    assert apart_mm.max() < 0.5
    assert fit.fitted_by == "gauss-newton"


def test_registration_does_not_depend_on_the_orientation(files, native, registered):
    for name in ("dwi", "adc"):
        turned(files[name], "PSL")
    other = patient.load_native(files["dwi"], files["adc"])
    assert other.dwi.orientation == "PSL"
    matrix = registration.register(other.dwi, other.adc.data, other.brain).transform.affine
    apart_mm = distances_mm(matrix, registered[0].transform.affine, brain_points_mm(native))
    assert np.median(apart_mm) < 1
    assert apart_mm.max() < 4


@pytest.mark.parametrize("codes", ["LAS", "RAS", "PSL", "IAR"])
def test_any_orientation_gives_the_same_mni_images(files, native, true_matrix, monkeypatch, codes):
    # The true matrix in place of a fit: what is left must agree voxel by voxel.
    figures = dict.fromkeys((f.name for f in dataclasses.fields(registration.FitFigures)), 0.0)
    fit = registration.Fit(
        transform=Transform(true_matrix),
        strategy="given",
        figures=registration.FitFigures(**{**figures, "template_brain_imaged": 1.0}),
    )
    monkeypatch.setattr(registration, "register", lambda *arguments, **options: fit)
    # A Tmax without values in its lowest slices, as programs leave it: no coverage there.
    empty = native.tmax.data.copy()
    empty[:, :, :5] = 0
    expected, _ = patient.to_mni(
        dataclasses.replace(native, tmax=dataclasses.replace(native.tmax, data=empty))
    )
    change(files["tmax"], lambda data: np.where(np.arange(data.shape[2]) < 5, 0, data))
    for name in files:
        turned(files[name], codes)
    got, quality = patient.to_mni(patient.load_native(**files))
    assert quality.registration.orientation == codes
    for name in ("brain", "coverage"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    for name in ("dwi", "adc_um2_per_s", "tmax_s"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-3, atol=0.1)
    assert not got.coverage.all(where=got.brain)


def test_mni_images_are_what_nibabel_resamples(native, registered):
    moved = nib.Nifti1Image(native.adc.data, registered[0].transform.affine @ native.adc.affine)
    expected = resample_from_to(moved, (grid.GRID_SHAPE, grid.GRID_AFFINE), order=1).get_fdata()
    np.testing.assert_allclose(registered[0].adc_um2_per_s, expected, atol=0.5)


def test_a_marked_left_stays_left_there_and_back(native, registered, true_matrix):
    transform = registered[0].transform
    x_mm = nib.affines.apply_affine(
        transform.affine @ native.dwi.affine, np.indices(native.brain.shape).reshape(3, -1).T
    )[:, 0].reshape(native.brain.shape)
    left = native.brain & (x_mm < -10)
    on_grid = transform.bring(dataclasses.replace(native.dwi, data=left.astype(np.float32)))
    assert (on_grid > 0.5)[grid.hemisphere("left")].sum() > 1000
    assert not (on_grid > 0.5)[grid.hemisphere("right")].any()
    back = transform.back(on_grid, native.dwi)
    overlap = 2 * ((back > 0.5) & left).sum() / ((back > 0.5).sum() + left.sum())
    assert overlap > 0.9


def test_quality_figures_are_measured(native, registered):
    mni, quality = registered
    found = quality.registration
    assert found.verdict == "good"
    assert quality.warnings == ()
    assert found.brain_dice_with_template > 0.9
    assert found.brain_native_ml == pytest.approx(
        native.brain.sum() * native.dwi.voxel_ml, abs=0.01
    )
    # The affine scales volumes by its determinant; mL are of the patient's tissue all the same.
    assert found.affine_determinant > 1.2
    assert found.brain_mni_ml == pytest.approx(
        mni.brain.sum() * grid.VOXEL_ML / found.affine_determinant, rel=1e-3
    )
    assert found.brain_mni_ml == pytest.approx(found.brain_native_ml, rel=0.1)
    assert found.coverage_mni_ml <= found.brain_mni_ml
    assert not mni.coverage[~mni.brain].any()
    json.dumps(dataclasses.asdict(quality), allow_nan=False)


def test_a_failed_fit_is_tried_in_another_way(native, true_matrix, monkeypatch):
    tried = []

    def fails(images, cut):
        tried.append("tissue")
        return np.diag([1.0, 1, 1, 1]) + 60 * np.eye(4, k=3) @ true_matrix

    others = {name: way for name, way in registration.STRATEGIES.items() if name != "tissue"}
    monkeypatch.setattr(registration, "STRATEGIES", {"tissue": fails, **others})
    fit = registration.register(native.dwi, native.adc.data, native.brain)
    assert tried == ["tissue"] and not fit.warnings
    assert (fit.strategy, fit.fitted_by) == ("contrast", "ants")
    error_mm = distances_mm(fit.transform.affine, true_matrix, brain_points_mm(native))
    assert np.median(error_mm) < 5


def test_a_fit_that_cannot_be_is_never_taken(native, true_matrix, monkeypatch):
    """One that mirrors, one that enlarges, one that is none: the last resort of each is refused."""
    wrong = (np.diag([-1.0, 1, 1, 1]), np.diag([9.0, 9, 9, 1]), np.full((4, 4), np.nan))
    every = {
        name: lambda images, cut, matrix=matrix: matrix @ true_matrix
        for name, matrix in zip(registration.STRATEGIES, wrong, strict=True)
    }
    monkeypatch.setattr(registration, "STRATEGIES", every)
    # Nothing was measured, for none of them is a fit.
    with pytest.raises(InputError, match=r"cannot be fitted to the template\. Expected a whole"):
        registration.register(native.dwi, native.adc.data, native.brain)


@pytest.mark.parametrize(
    ("axis", "words"), [(1, "back to front"), (2, "upside down")], ids=["front", "top"]
)
def test_a_header_that_turns_the_head_round_is_found_out(native, axis, words):
    dwi, adc, brain = (
        np.flip(data, axis) for data in (native.dwi.data, native.adc.data, native.brain)
    )
    with pytest.raises(InputError, match=f"lies {words} against the file's header"):
        registration.register(dataclasses.replace(native.dwi, data=dwi), adc, brain)


def test_half_a_head_is_refused_and_a_little_less_is_not(files, tmp_path):
    def keep(slices):
        for name in ("dwi", "adc"):
            image = nib.load(files[name]).slicer[:, :, slices]
            nib.save(image, tmp_path / f"cut-{name}.nii.gz")
        return patient.load_native(tmp_path / "cut-dwi.nii.gz", tmp_path / "cut-adc.nii.gz")

    count = nib.load(files["dwi"]).shape[2]
    for half in (slice(count // 2), slice(count // 2, None)):
        with pytest.raises(
            InputError, match=r"DWI .*cut-dwi.nii.gz: (an end slice shows|the brain)"
        ):
            keep(half)
        # The same, filled with zeros.
        for name in ("dwi", "adc"):
            image = nib.load(files[name])
            data = np.zeros(image.shape)
            data[:, :, half] = image.get_fdata()[:, :, half]
            save_volume(tmp_path / f"filled-{name}.nii.gz", data, image.affine)
        with pytest.raises(InputError, match=r"filled-dwi.nii.gz: (an end slice shows|the brain)"):
            patient.load_native(tmp_path / "filled-dwi.nii.gz", tmp_path / "filled-adc.nii.gz")
    mni, quality = patient.to_mni(keep(slice(int(count * 0.85))))
    assert quality.registration.template_brain_imaged > 0.9
    assert 0.8 < quality.registration.affine_determinant < 2.6


@pytest.mark.parametrize(("left_out", "refused"), [(0.5, True), (0.42, False)])
def test_a_head_that_is_cut_at_a_side(native, left_out, refused):
    """End slices do not show it, and no mirrored half is to answer for the one that is missing."""
    first = int(native.dwi.data.shape[0] * left_out)
    shift = np.eye(4)
    shift[0, 3] = first

    def cut(image):
        return dataclasses.replace(image, data=image.data[first:], affine=image.affine @ shift)

    half = dataclasses.replace(
        native, dwi=cut(native.dwi), adc=cut(native.adc), brain=native.brain[first:], tmax=None
    )
    if refused:
        with pytest.raises(InputError, match="about half of the head is missing"):
            patient.to_mni(half)
    else:
        _, quality = patient.to_mni(half)
        assert [each for each in quality.warnings if "a part of the head is missing" in each], (
            quality
        )


def test_a_deformable_fit_goes_there_and_back(native, registered):
    fit = registration.register(native.dwi, native.adc.data, native.brain, kind="syn")
    assert fit.kind == "syn"
    assert fit.figures.tissue_correlation > registered[1].registration.tissue_correlation + 0.1
    points = brain_points_mm(native)[::50]
    again = fit.transform.to_native(fit.transform.to_mni(points))
    assert np.percentile(np.linalg.norm(again - points, axis=1), 95) < 0.5
    moved = np.linalg.norm(
        fit.transform.to_mni(points) - Transform(fit.transform.affine).to_mni(points), axis=1
    )
    assert 0.5 < np.median(moved) < 10
    back = fit.transform.back(fit.transform.bring(native.adc), native.dwi)
    inside = native.brain & (back > 0)
    assert np.corrcoef(back[inside], native.adc.data[inside])[0, 1] > 0.9


def test_a_head_that_moved_before_perfusion_is_moved_back(native):
    turn = nib.affines.from_matvec(registration_turn(8), [6.0, -9, 4])
    tmax = dataclasses.replace(native.tmax, affine=turn @ native.tmax.affine)
    moved, messages = patient._align_tmax(tmax, native.dwi, native.brain)
    assert "it was moved by" in messages[0]
    corners = np.array(np.meshgrid(*[(20, 100), (20, 100), (2, 12)])).reshape(3, -1).T
    apart = [nib.affines.apply_affine(v.affine, corners) for v in (moved, native.tmax)]
    assert np.linalg.norm(apart[0] - apart[1], axis=1).mean() < 4
    assert patient._align_tmax(native.tmax, native.dwi, native.brain) == (native.tmax, [])


@pytest.mark.parametrize("blank", [slice(0, 5), slice(-3, None)])
def test_blank_outer_slices_of_tmax_do_not_move_it(native, blank):
    data = native.tmax.data.copy()
    data[:, :, blank] = 0
    tmax = dataclasses.replace(native.tmax, data=data)
    assert patient._align_tmax(tmax, native.dwi, native.brain) == (tmax, [])


def registration_turn(degrees):
    angle = np.deg2rad(degrees)
    return np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )


def test_a_tmax_that_lies_off_the_brain_is_refused(raw_cohort, tmp_path):
    files, _ = find_raw_files(raw_cohort, "sub-0001")
    tmax = load_volume(files.tmax)
    affine = tmax.affine.copy()
    affine[0, 3] += 500
    save_volume(tmp_path / "far.nii.gz", tmax.data, affine)
    found, faults = patient.examine(files.dwi, files.adc, tmp_path / "far.nii.gz")
    assert found is None
    assert "its field of view covers 0% of the DWI's brain" in faults[0]
