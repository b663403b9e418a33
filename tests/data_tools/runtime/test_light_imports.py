"""Packages that are imported without a part of them."""

import subprocess
import sys

import pytest

from data_tools.runtime import light_imports

pytestmark = pytest.mark.quick

CODE = """
import sys
from data_tools.runtime import light_imports
light_imports.prepare_nibabel()
print("pydicom" in sys.modules, "nibabel" in sys.modules)
import pydicom
from nibabel.nicom.dicomwrappers import MosaicWrapper
print(pydicom.Dataset.__name__)
"""


def test_nibabel_comes_without_pydicom_which_can_be_imported_afterwards():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "True", "Dataset"], done.stderr


def test_what_is_imported_already_stays():
    with light_imports.without("json"):
        import json

    assert sys.modules["json"] is json


def test_what_is_not_imported_is_not_found_and_leaves_no_trace():
    with light_imports.without("no_such_package"), pytest.raises(ImportError):
        __import__("no_such_package")
    assert "no_such_package" not in sys.modules


PARTS = """
import sys
from data_tools.runtime import light_imports
with light_imports.parts_only("json"):
    from json import scanner
    assert not hasattr(sys.modules["json"], "loads")
assert "json" not in sys.modules and "json.scanner" in sys.modules
import json
from json import scanner as again
assert json.loads("[1]") == [1] and again is scanner
with light_imports.parts_only("json"):  # which is there already
    assert sys.modules["json"] is json
with light_imports.parts_only("no_such_package"):
    pass
print("ok")
"""


def test_a_part_is_imported_without_its_packages_start():
    done = subprocess.run([sys.executable, "-c", PARTS], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("ok\n", "")
