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
