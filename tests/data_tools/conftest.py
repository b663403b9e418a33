"""Cohorts that several test files lay out."""

import pytest


@pytest.fixture
def files(tmp_path):
    """Make empty files below the cohort."""

    def touch(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return touch
