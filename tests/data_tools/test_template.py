"""The template inside the package is nilearn's, and nothing of nilearn is loaded to read it."""

import subprocess
import sys

import numpy as np
import pytest

from data_tools import template

pytestmark = pytest.mark.quick


def test_the_file_is_nilearns_template_within_its_rounding():
    from nilearn import datasets

    grey, white = (
        getattr(datasets, f"load_mni152_{name}_template")(resolution=2) for name in ("gm", "wm")
    )
    wanted = {
        "t1": datasets.load_mni152_template(resolution=2).get_fdata(),
        "tissue": grey.get_fdata() + white.get_fdata(),
        "brain": datasets.load_mni152_brain_mask(resolution=2).get_fdata(),
    }
    maps = template.template()
    assert set(maps) == set(wanted)
    for name, data in wanted.items():
        np.testing.assert_array_equal(maps[name].affine, grey.affine)
        assert maps[name].data.dtype == np.float32
        np.testing.assert_allclose(maps[name].data, np.clip(data, 0, 1), atol=0.51 / 255)


def test_the_template_on_the_grid_is_symmetric_and_as_large_as_published():
    tissue, brain = template.template_on_grid()
    assert (brain == brain[::-1]).mean() > 0.999
    assert np.abs(tissue - tissue[::-1]).mean() < 0.001
    assert 1.7 < template.template()["brain"].data.sum() * 8e-6 < 2.0  # L


def test_nothing_of_nilearn_or_ants_is_loaded_for_it():
    program = (
        "import sys; from data_tools import registration; registration.template_on_grid(); "
        "sys.exit(bool({'nilearn', 'ants'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
