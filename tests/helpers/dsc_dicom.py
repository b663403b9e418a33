"""A simulated DSC scan as scanners' DICOM files, as each vendor numbers and times them."""

import numpy as np

from helpers.dicom_files import write_mosaic, write_series

KIND = ["ORIGINAL", "PRIMARY", "M"]
NAME = "ep2d_perf"


def volumes(images):
    return [images.signal[..., k] for k in range(images.signal.shape[3])]


def write_classic(folder, images, vendor="siemens", *, by_slice=False, change=None, **options):
    """One file for each slice and frame; ``by_slice`` numbers all frames of a slice first.

    Siemens has AcquisitionTime, GE TriggerTime, Philips TemporalPositionIdentifier; ``plain`` has
    InstanceNumber only. ``change(data, image, level)`` does what else there is to do.
    """
    scan, count = images.scan, images.signal.shape[3]

    def timed(data, image, level):
        _basic(data, scan)
        late_s = float(images.slice_times_s[level])
        start_s = float(images.times_s[image])
        del data.AcquisitionTime, data.AcquisitionNumber
        if vendor == "siemens":
            data.AcquisitionTime = clock(start_s + late_s)
            data.AcquisitionNumber = image + 1
        elif vendor == "ge":
            data.AcquisitionTime = clock(0)
            data.TriggerTime = f"{1000 * (start_s + late_s):.1f}"
        elif vendor == "philips":
            data.AcquisitionTime = clock(0)
            data.TemporalPositionIdentifier = image + 1
        if by_slice:
            data.InstanceNumber = level * count + image + 1
        if change is not None:
            change(data, image, level)

    maker = {"ge": "GE MEDICAL SYSTEMS", "philips": "Philips"}.get(vendor, "SIEMENS")
    return write_series(
        folder, volumes(images), images.affine, number=7, description=NAME, kind=KIND,
        maker=maker, change=timed, **options,
    )  # fmt: skip


def write_mosaics(folder, images):
    """One file a frame, with Siemens' list of slice times."""
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    series = generate_uid()
    for k, volume in enumerate(volumes(images)):
        path = folder / f"frame{k:03d}.dcm"
        write_mosaic(
            path, volume, images.affine, number=7, description=NAME, kind=KIND, series=series
        )
        data = dcmread(path)
        _basic(data, images.scan)
        data.InstanceNumber = data.AcquisitionNumber = k + 1
        data.AcquisitionTime = clock(images.times_s[k])
        block = data.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x29, "FD", [1000 * float(each) for each in images.slice_times_s])
        data.save_as(path)


def clock(since_s):
    """Time of day, half a minute before midnight and on."""
    at_s = (86370 + since_s) % 86400
    minutes, seconds = divmod(at_s, 60)
    return f"{int(minutes // 60):02d}{int(minutes % 60):02d}{seconds:09.6f}"


def _basic(data, scan):
    data.EchoTime = scan.echo_time_s * 1000
    data.RepetitionTime = scan.repetition_time_s * 1000


def slice_delays(images):
    """As files show them: from the first slice."""
    return images.slice_times_s - np.min(images.slice_times_s)
