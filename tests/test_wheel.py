"""The wheel has the command, the demonstration model and every file that the code reads."""

import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers import PROJECT

PACKAGES = ("data_tools", "tf_hypoperfusion", "saved_models")
BESIDE = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since a build leaves files beside the source."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(
            PROJECT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in BESIDE:
        shutil.copy(PROJECT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         f"--wheel-dir={folder}", source],
        check=True,
    )  # fmt: skip
    (found,) = folder.glob("*.whl")
    return found


def test_every_file_of_the_packages_is_in_it_and_no_test(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    read = {
        path.relative_to(PROJECT).as_posix()
        for package in PACKAGES[:2]
        for path in (PROJECT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    model = PROJECT / "saved_models/hypoperfusion_demo"
    read |= {p.relative_to(PROJECT).as_posix() for p in model.rglob("*") if p.is_file()}
    assert len(read) > 250 and read - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)


def test_it_gives_the_command_and_answers_in_an_empty_folder(wheel, tmp_path):
    archive = zipfile.ZipFile(wheel)
    points = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "hypoperfusion = tf_hypoperfusion.command_line:main" in archive.read(points).decode()
    archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import tf_hypoperfusion as hp\n"
        "from tf_hypoperfusion import command_line\n"
        "print(hp.load_model().paths[0])\n"  # which are undamaged
        "sys.argv[1:] = ['--version']\n"
        "sys.exit(command_line.main())\n"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, tmp_path / "site"],
        cwd=empty, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model, version = done.stdout.splitlines()
    assert model.startswith(str(tmp_path / "site/saved_models/hypoperfusion_demo"))
    assert version.startswith(f"hypoperfusion {wheel.name.split('-')[1]}.")
