"""Image, compose file and unit: what they name is there, and their settings are the node's."""

import configparser
import json
import os
import re
import shutil
import string
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers import PROJECT

from tf_hypoperfusion.command_line import MODULES
from tf_hypoperfusion.hospital import settings

yaml = pytest.importorskip("yaml", reason="the node's settings are YAML (extra dicom)")
FOLDER = PROJECT / "serving/hospital"


def instructions():
    """Each instruction of the Containerfile: its name and the rest."""
    text = (FOLDER / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


@pytest.mark.quick
def test_the_image_copies_what_is_there_and_ends_as_a_user_of_its_own():
    found = instructions()
    sources = [word for name, rest in found if name == "COPY" for word in rest.split()[:-1]]
    assert sources and all((PROJECT / source).exists() for source in sources)
    sent = (PROJECT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in sent if line.startswith("!")} == set(sources) and "*" in sent
    steps = " ".join(rest for name, rest in found if name == "RUN")
    (constraints,) = re.findall(r"--constraint /src/(\S+)", steps)
    assert (PROJECT / constraints).is_file()
    names = [name for name, _ in found]
    assert ("USER", "10001") in found and names.index("USER") < names.index("ENTRYPOINT")
    assert ("ENTRYPOINT", '["hypoperfusion"]') in found


# What the image has by its absolute path lies in a folder here.
PLACES = ("/opt/hypoperfusion", "/src", "/var/lib/hypoperfusion")


def test_every_step_of_the_image_works_in_an_empty_folder(tmp_path):
    """Each COPY and RUN in turn, and the entry point; libraries come from this environment."""
    for package in ("highdicom", "pynetdicom"):
        pytest.importorskip(package, reason="extra `dicom` is not installed")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    # Nothing is downloaded.
    variables |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "HOME": str(tmp_path)}
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"

    def here(text):
        return re.sub("|".join(PLACES), lambda found: f"{tmp_path}{found[0]}", text)

    def run(command):
        done = subprocess.run(
            command, shell=isinstance(command, str), cwd=tmp_path, env=variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    entry = []
    for name, rest in instructions():
        if name == "ENV":
            variables |= {
                key: string.Template(here(value)).substitute(variables)
                for key, value in re.findall(r"(\w+)=(\S+)", rest)
            }
        elif name == "ARG" and rest.startswith("TENSORFLOW"):
            variables["TENSORFLOW"] = rest.partition("=")[2].strip("'").partition("==")[0]
        elif name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(PROJECT / source, Path(here(target)), alone=len(sources) == 1)
        elif name == "RUN" and rest.startswith("pip"):
            (folder,) = tmp_path.glob("opt/hypoperfusion/lib/*/site-packages")
            (folder / "libraries.pth").write_text(sysconfig.get_path("purelib"))
            # What is installed here is pinned already, if not by the same versions.
            run(here(rest.partition(" --constraint")[0]))
        elif name == "RUN" and rest.startswith("useradd"):
            assert "--uid 10001" in rest  # users of this machine are left alone
        elif name == "RUN":
            owner = "--owner=10001 " if os.geteuid() else ""
            run(here(rest).replace(owner, ""))
        elif name in ("ENTRYPOINT", "CMD"):
            entry.append(json.loads(rest))
    assert "node" in run(entry[0] + entry[1])
    version = run([*entry[0], "--version"])
    assert re.search(r"[0-9]+\.[0-9]+", version)
    (package,) = tmp_path.glob("opt/hypoperfusion/lib/*/site-packages/tf_hypoperfusion")
    assert not package.is_symlink()


def _copy(source, target, alone):
    """As COPY does: a folder's content, or files into a folder."""
    if source.is_dir() and alone:
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


@pytest.mark.quick
def test_every_image_has_a_version():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    images = {name: each["image"] for name, each in services.items() if "build" not in each}
    assert len(images) == 3
    assert all(re.search(r":v?[0-9]+\.[0-9.]+$", image) for image in images.values())


@pytest.mark.quick
def test_the_compose_file_starts_the_node_with_settings_that_are_its_own():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    node = services["node"]
    assert node["command"][0] in MODULES
    mounts = dict(volume.split(":")[:2] for volume in node["volumes"])
    given = settings.read(FOLDER / "node.yaml")
    assert f"--config={mounts['./node.yaml']}" in node["command"]
    assert given.page is not None and given.page.token_file in mounts.values()
    assert Path(given.spool).is_relative_to(mounts["spool"])
    assert f"{given.listen.port}:{given.listen.port}" in node["ports"]
    assert {each.url.split("/")[2].split(":")[0] for each in given.destinations} <= set(services)
    caddy = (FOLDER / "Caddyfile").read_text()
    assert f"node:{given.page.port}" in caddy and given.page.names[0] in caddy


@pytest.mark.quick
def test_the_unit_runs_the_node_with_files_closed_to_others():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(FOLDER / "hypoperfusion-node.service")
    command = unit["Service"]["ExecStart"].split()
    assert command[0].endswith("/hypoperfusion") and command[1] in MODULES
    assert unit["Service"]["UMask"] == "0077"
