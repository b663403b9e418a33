"""Which models and versions are served, by folder and by ``models.config``."""

from pathlib import Path

import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.serving.server import policies
from tf_hypoperfusion.serving.server.policies import ModelPolicy, ModelSource


def test_the_newest_are_wanted_or_those_that_are_named():
    def wanted(**policy):
        return ModelPolicy(name="a", folder=Path("a"), **policy).wanted([2, 3, 7])

    assert wanted() == [7]
    assert wanted(latest=2) == [3, 7]
    assert wanted(latest=9) == [2, 3, 7]
    assert wanted(latest=2, versions=(2, 5)) == [2]


def test_a_folder_serves_the_newest_of_every_model_in_it(tmp_path):
    (tmp_path / "a/1").mkdir(parents=True)
    (tmp_path / "b/no version").mkdir(parents=True)
    assert ModelSource(str(tmp_path)).policies() == [ModelPolicy(name="a", folder=tmp_path / "a")]
    with pytest.raises(InputError, match="no such folder"):
        ModelSource(f"{tmp_path}/none").check()


def test_policies_of_a_config(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(
        """model_config_list {
          config { name: "all" base_path: "/all" model_version_policy { all {} } }
          config { name: "some" base_path: "/some"
            model_version_policy { specific { versions: 2 versions: 4 } }
            version_labels { key: "stable" value: 2 } }
          config { name: "newest" base_path: "/newest" }
        }"""
    )
    every, some, newest = policies.of_config(path)
    assert every.wanted([1, 2, 3]) == [1, 2, 3]
    assert (some.versions, some.labels) == ((2, 4), {"stable": 2})
    assert newest == ModelPolicy(name="newest", folder=Path("/newest"))
    path.write_text("")
    with pytest.raises(InputError, match="names no model"):
        ModelSource(str(path), is_config=True).check()
