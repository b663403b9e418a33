"""Orientations x kinds of files x vendors x b-schemes: the head's mL and place, or a refusal.

Two hundred combinations, drawn by hypothesis, always the same ones. The truth is the phantom's
own count of voxels, and its signals follow from its ADC by the Stejskal-Tanner equation alone.
"""

import collections
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.phantom import phantom
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data_tools.patient import core_of, load_native
from data_tools.runtime.errors import InputError

pytest.importorskip("pydicom", reason="extra `dicom` is not installed")

HEAD = phantom()
TRACE = (0.0, 0.0, 0.0)
AXES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
TILTED = tuple(tuple(row) for row in np.array([[2, 2, 1], [-2, 1, 2], [1, -2, 2]]) / 3)
# name -> (b-value, direction, share of the ADC that acts in it) of each image; is it a refusal?
SCHEMES = {
    "0, 1000": ([(0, TRACE, 1), (1000, TRACE, 1)], False),
    "50, 1000": ([(50, TRACE, 1), (1000, TRACE, 1)], False),
    "5, 800": ([(5, TRACE, 1), (800, TRACE, 1)], False),
    "1000, 0": ([(1000, TRACE, 1), (0, TRACE, 1)], False),
    "0, 500, 1000": ([(b, TRACE, 1) for b in (0, 500, 1000)], False),
    "0, 1000, 1200": ([(b, TRACE, 1) for b in (0, 1000, 1200)], False),
    "0, 1000, 2000": ([(b, TRACE, 1) for b in (0, 1000, 2000)], False),
    "three directions": (
        [(0, TRACE, 1), *((1000, axis, s) for axis, s in zip(AXES, (0.8, 1, 1.2), strict=True))],
        False,
    ),
    "three tilted directions at 30": (
        [(30, TRACE, 1), *((1000, axis, s) for axis, s in zip(TILTED, (0.7, 1, 1.3), strict=True))],
        False,
    ),
    "directions and their mean": (
        [(0, TRACE, 1), *((1000, axis, 0.6) for axis in AXES), (1000, TRACE, 1)],
        False,
    ),
    "one direction": ([(0, TRACE, 1), (1000, AXES[0], 0.85)], True),
    "two directions": ([(0, TRACE, 1), *((1000, axis, 0.9) for axis in AXES[:2])], True),
    "b = 0 alone": ([(0, TRACE, 1)], True),
    "low b alone": ([(0, TRACE, 1), (300, TRACE, 1)], True),
}
NIFTI = ("nii", "nii.gz", "NII.GZ", "img", "mha", "nrrd")
SCANNERS = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems", "CANON_MEC", "UIH")
LAYOUTS = ("classic", "slice by slice", "enhanced", "mosaic")
DTYPES = ("int16", "uint16", "int32", "float32", "float64")
SEEN: collections.Counter = collections.Counter()


def orientation():
    """Any order of the axes, any of them turned about, and the head turned in the scanner."""
    return st.tuples(
        st.permutations((0, 1, 2)),
        st.tuples(*[st.booleans()] * 3),
        st.sampled_from((0.0, 0.1, -0.3)),
    )


def stored(volume, axes, turned):
    """Another order of storage: array, and new index -> old index."""
    moved = np.transpose(volume, axes)
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, old in enumerate(axes):
        to_old[old, new] = -1 if turned[new] else 1
        if turned[new]:
            moved = np.flip(moved, new)
            to_old[old, 3] = moved.shape[new] - 1
    return np.ascontiguousarray(moved), to_old


def tilt(angle):
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def write_image(path, data, affine, dtype):
    """One image file; returns its path."""
    if path.suffix in (".mha", ".nrrd"):
        import SimpleITK as sitk

        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        spacing = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
        volumes = np.moveaxis(data, -1, 0) if data.ndim == 4 else data[np.newaxis]
        images = []
        for volume in volumes:
            image = sitk.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0)))
            image.SetSpacing(spacing.tolist())
            image.SetOrigin(lps[:3, 3].tolist())
            image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
            images.append(image)
        sitk.WriteImage(images[0], str(path))
        return path
    kind = nib.Nifti1Pair if path.suffix == ".img" else nib.Nifti1Image
    image = kind(data.astype(dtype), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    plain = path.with_name(path.name.lower())
    nib.save(image, plain)
    return plain.rename(path)


def as_images(folder, images, affine, *, container, dtype, own_adc, adc):
    """A 4D file with .bval and .bvec, or for formats of one volume a file of each b-value."""
    data = [values.round() if dtype[0] != "f" else values for values in images["data"]]
    data = [values.astype(dtype) for values in data]
    adc_path = None
    if own_adc:
        adc_path = write_image(folder / f"adc.{container}", adc.astype(dtype), affine, dtype)
    if container in ("mha", "nrrd"):
        written = {}
        for number, values in enumerate(data):
            path = write_image(folder / f"dwi{number}.{container}", values, affine, dtype)
            (folder / f"dwi{number}.bval").write_text(f"{images['b'][number]}")
            vector = images["directions"][number]
            (folder / f"dwi{number}.bvec").write_text("\n".join(map(str, vector)))
            written[images["b"][number]] = path
        high = min(written, key=lambda b: abs(b - 1000))
        low = min(written)
        return load_native(written[high], adc_path, b0=written[low] if low != high else None)
    path = write_image(folder / f"dwi.{container}", np.stack(data, axis=-1), affine, dtype)
    (folder / "dwi.bval").write_text(" ".join(map(str, images["b"])))
    vectors = np.array(images["directions"]).T
    (folder / "dwi.bvec").write_text("\n".join(" ".join(map(str, row)) for row in vectors))
    return load_native(path, adc_path)


def as_dicom(folder, images, affine, *, layout, maker, own_adc, adc):
    """Scanners' files; a map's scale differs from slice to slice where the layout can say so."""
    from helpers.dicom_files import write_enhanced, write_mosaic, write_series

    plain, mean = ["ORIGINAL", "PRIMARY", "OTHER"], ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]
    # Of trace images Siemens' type alone says that they are.
    kinds = [plain if any(direction) else mean for direction in images["directions"]]
    words = {"number": 3, "description": "DWI", "kind": kinds if maker == "SIEMENS" else plain}
    given = {"b_values": images["b"], "directions": images["directions"], "maker": maker}
    if layout == "enhanced":
        words["kind"] = plain
        write_enhanced(folder / "dwi.dcm", images["data"], affine, **words, **given)
    elif layout == "mosaic":
        for number, (b, data) in enumerate(zip(images["b"], images["data"], strict=True)):
            write_mosaic(folder / f"{number}.dcm", data, affine, b_value=b, series="1.2.8",
                         **(words | {"kind": mean}))  # fmt: skip
    else:

        def by_slice(data, image, level):
            if layout == "slice by slice":
                data.InstanceNumber = len(images["b"]) * level + image + 1

        write_series(folder, images["data"], affine, change=by_slice, **words, **given)
    if own_adc:
        kind = ["DERIVED", "PRIMARY", "ADC_UNSPECIFIED", "ADC", "UNSPECIFIED"]
        write_series(
            folder, [adc], affine, number=4, description="dADC", kind=kind, maker=maker,
            scale=lambda image, level: (0.3 + 0.02 * level, 0.0),
        )  # fmt: skip
    return load_native(folder)


@settings(
    max_examples=200, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.generate],
)  # fmt: skip
@given(
    where=orientation(),
    scheme=st.sampled_from(sorted(SCHEMES)),
    source=st.one_of(
        st.tuples(st.just("image"), st.sampled_from(NIFTI), st.sampled_from(DTYPES)),
        st.tuples(st.just("dicom"), st.sampled_from(LAYOUTS), st.sampled_from(SCANNERS)),
    ),
    own_adc=st.booleans(),
)
def check_combination(where, scheme, source, own_adc):
    """Of one combination."""
    (axes, turned, angle), (weightings, refused) = where, SCHEMES[scheme]
    family, container, detail = source
    if family == "dicom" and container == "mosaic":
        weightings = [(b, TRACE, 1) for b, direction, _ in weightings if not any(direction)]
        detail = "SIEMENS"
        if scheme in ("one direction", "two directions", "three directions",
                      "three tilted directions at 30"):  # fmt: skip
            weightings, refused = SCHEMES["0, 1000"]
    if family == "image" and container in ("mha", "nrrd") and any(
        any(direction) for _, direction, _ in weightings
    ):  # fmt: skip
        weightings, refused = SCHEMES["50, 1000"]
    volumes, to_old = [], None
    for b, _, share in weightings:
        volume, to_old = stored(HEAD.image(b, share), axes, turned)
        volumes.append(volume)
    adc, _ = stored(HEAD.adc_um2_per_s, axes, turned)
    affine = tilt(angle) @ HEAD.affine @ to_old
    images = {
        "data": volumes,
        "b": [b for b, _, _ in weightings],
        "directions": [direction for _, direction, _ in weightings],
    }
    SEEN[f"{family} {container}"] += 1
    SEEN[scheme] += 1
    read, words = as_images, {"container": container, "dtype": detail}
    if family == "dicom":
        read, words = as_dicom, {"layout": container, "maker": detail}
    with tempfile.TemporaryDirectory() as place:
        refusal, native = "", None
        try:
            native = read(Path(place), images, affine, own_adc=own_adc, adc=adc, **words)
        except InputError as error:
            refusal = str(error)
    assert bool(refusal) == refused, refusal or "taken although it cannot be right"
    if refused:
        SEEN["refused"] += 1
        return
    core = core_of(native)
    ml = core.sum() * native.dwi.voxel_ml
    assert ml == pytest.approx(HEAD.core_ml, rel=0.01)
    centre = nib.affines.apply_affine(native.dwi.affine, np.argwhere(core).mean(axis=0))
    expected = nib.affines.apply_affine(tilt(angle), HEAD.core_centre_mm)
    np.testing.assert_allclose(centre, expected, atol=0.5)
    SEEN["right"] += 1


def test_two_hundred_combinations_are_right_or_refused():
    SEEN.clear()
    check_combination()
    assert SEEN["right"] + SEEN["refused"] >= 200
    assert SEEN["right"] >= 100 and SEEN["refused"] >= 20
    missing = [name for name in SCHEMES if not SEEN[name]]
    missing += [c for c in NIFTI if not SEEN[f"image {c}"]]
    missing += [c for c in LAYOUTS if not SEEN[f"dicom {c}"]]
    assert not missing
