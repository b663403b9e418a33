"""Networks that several test files look at."""

import pytest


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """Two small networks of different weights. Read only."""
    from tf_hypoperfusion.config import PRESETS
    from tf_hypoperfusion.model.attention_unet import build_model

    folder = tmp_path_factory.mktemp("networks")
    paths = []
    for seed in (1, 2):
        paths.append(folder / f"fold-{seed}" / "best.keras")
        paths[-1].parent.mkdir()
        build_model(PRESETS["tiny"][0], seed=seed).save(paths[-1])
    return paths


@pytest.fixture(scope="session")
def network_predictors(networks):
    """Predictors of both networks, in their order."""
    from tf_hypoperfusion.inference import predictors

    return [predictors.load_predictor(path) for path in networks]


@pytest.fixture(scope="session")
def averaged_export(networks, tmp_path_factory):
    """Both networks as version 1 of "both", windows every 16 slices.

    Read only. Its tests stay on one worker (``TOGETHER`` in ``tests/conftest.py``).
    """
    from tf_hypoperfusion.serving import saved_model

    out = tmp_path_factory.mktemp("exported")
    return saved_model.export(networks, "both", out, stride=16)[0]
