"""Networks that several test files look at."""

import pytest
from helpers.made_once import made_once


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """Two small networks of different weights. Read only."""
    from tf_hypoperfusion.config import preset
    from tf_hypoperfusion.model.attention_unet import build_model

    seeds = (1, 2)

    def build(folder):
        for seed in seeds:
            (folder / f"fold-{seed}").mkdir(parents=True)
            network = build_model(preset("tiny", poolings=1).model, seed=seed)
            network.save(folder / f"fold-{seed}/best.keras")

    folder = made_once(tmp_path_factory, "networks", build)
    return [folder / f"fold-{seed}/best.keras" for seed in seeds]


@pytest.fixture(scope="session")
def network_predictors(networks):
    """Predictors of both networks, in their order."""
    from tf_hypoperfusion.inference import predictors

    return [predictors.load_predictor(path) for path in networks]


@pytest.fixture(scope="session")
def averaged_export(networks, tmp_path_factory):
    """Both networks as version 1 of "both", windows every 16 slices. Read only."""
    from tf_hypoperfusion.serving import saved_model

    def export(folder):
        saved_model.export(networks, "both", folder, stride=16)

    return made_once(tmp_path_factory, "averaged", export) / "both/1"


@pytest.fixture(scope="session")
def core_networks(tmp_path_factory):
    """Two small networks that answer with a core too. Read only."""
    from tf_hypoperfusion.config import preset
    from tf_hypoperfusion.model.attention_unet import build_model

    seeds = (3, 4)

    def build(folder):
        for seed in seeds:
            (folder / f"fold-{seed}").mkdir(parents=True)
            network = build_model(preset("tiny", poolings=1, core_output=True).model, seed=seed)
            network.save(folder / f"fold-{seed}/best.keras")

    folder = made_once(tmp_path_factory, "core_networks", build)
    return [folder / f"fold-{seed}/best.keras" for seed in seeds]


@pytest.fixture(scope="session")
def core_export(core_networks, tmp_path_factory):
    """Both of them as version 1 of "cores", windows every 16 slices. Read only."""
    from tf_hypoperfusion.serving import saved_model

    def export(folder):
        saved_model.export(core_networks, "cores", folder, stride=16)

    return made_once(tmp_path_factory, "cores", export) / "cores/1"


@pytest.fixture(scope="session")
def scanned(raw_cohort, tmp_path_factory):
    """A simulated patient as DICOM files. Read only."""
    pytest.importorskip("pydicom", reason="extra `dicom` is not installed")
    import numpy as np
    from helpers.dicom_files import write_series

    from data_tools.cohort import find_raw_files
    from data_tools.patient import load_native

    def write(folder):
        found, _ = find_raw_files(raw_cohort, "sub-0001")
        native = load_native(found.dwi, found.adc)
        b0 = native.dwi.data * np.exp(native.adc.data / 1000)
        write_series(
            folder, [b0, native.dwi.data], native.dwi.affine, number=3,
            description="ep2d_diff_TRACEW",
            kind=["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW", "ND"], b_values=[0, 1000],
        )  # fmt: skip

    return made_once(tmp_path_factory, "scanned", write)
