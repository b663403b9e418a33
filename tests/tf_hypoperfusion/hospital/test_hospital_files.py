"""Image, compose file and unit: what they name is there, and their settings are the node's."""

import configparser
import re
from pathlib import Path

import pytest
from helpers import PROJECT

from tf_hypoperfusion.command_line import MODULES
from tf_hypoperfusion.hospital import settings

yaml = pytest.importorskip("yaml", reason="the node's settings are YAML (extra dicom)")
pytestmark = pytest.mark.quick
FOLDER = PROJECT / "serving/hospital"


def instructions():
    """Each instruction of the Containerfile: its name and the rest."""
    text = (FOLDER / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_the_image_copies_what_is_there_and_ends_as_a_user_of_its_own():
    found = instructions()
    sources = [word for name, rest in found if name == "COPY" for word in rest.split()[:-1]]
    assert sources and all((PROJECT / source).exists() for source in sources)
    steps = " ".join(rest for name, rest in found if name == "RUN")
    (constraints,) = re.findall(r"--constraint /src/(\S+)", steps)
    assert (PROJECT / constraints).is_file()
    names = [name for name, _ in found]
    assert ("USER", "10001") in found and names.index("USER") < names.index("ENTRYPOINT")
    assert ("ENTRYPOINT", '["hypoperfusion"]') in found


def test_every_image_has_a_version():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    images = {name: each["image"] for name, each in services.items() if "build" not in each}
    assert len(images) == 3
    assert all(re.search(r":v?[0-9]+\.[0-9.]+$", image) for image in images.values())


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


def test_the_unit_runs_the_node_with_files_closed_to_others():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(FOLDER / "hypoperfusion-node.service")
    command = unit["Service"]["ExecStart"].split()
    assert command[0].endswith("/hypoperfusion") and command[1] in MODULES
    assert unit["Service"]["UMask"] == "0077"
