"""node.yaml: what it may say, and what is said of its faults."""

import pytest
import yaml
from helpers import PROJECT

from data_tools.runtime.errors import InputError

settings = pytest.importorskip("tf_hypoperfusion.hospital.settings")
GOOD = {
    "spool": "spool",
    "listen": {"ae_title": "HYPO", "port": 0, "callers": ["SCANNER"]},
    "destinations": [{"kind": "stow", "name": "web", "url": "http://127.0.0.1/dicom-web"}],
}


def at(url):
    """A destination at an address."""
    return {"destinations": [{**GOOD["destinations"][0], "url": url}]}


def written(tmp_path, **changes):
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


def test_the_example_can_be_read_and_its_defaults_are_the_programs():
    example = PROJECT / "serving/node.yaml"
    found = settings.read(example)
    assert found.listen.callers == ("SCANNER1", "PACS")
    said = [line[2:] for line in example.read_text().splitlines() if line.startswith("# ")]
    said = [line for line in said if line.split(":")[0] in settings.Settings.__annotations__]
    shown = yaml.safe_load("\n".join(line for line in said if not line.startswith("model")))
    shown.pop("nihss_from")
    assert shown.pop("page") is None
    assert len(shown) == 6
    for name, value in shown.items():
        default = getattr(found, name)
        if isinstance(value, dict):
            default = {key: getattr(default, key) for key in value}
        assert default == value, name


def test_whole_numbers_are_numbers_too(tmp_path):
    found = settings.read(written(tmp_path, quiet_s=7, keep={"images_h": 1}))
    assert found.quiet_s == 7 and found.keep.images_h == 1 and found.keep.results_days == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quite_s": 3}, "quite_s is no key"),
        ({"quiet_s": "soon"}, "quiet_s is 'soon'"),
        ({"quiet_s": -1}, "quiet_s is -1.*greater than 0"),
        ({"listen": {"ae_title": "HYPO", "port": 1}}, "listen.callers is missing"),
        ({"listen": {**GOOD["listen"], "callers": []}}, "callers; it should have at least 1 item"),
        ({"listen": {**GOOD["listen"], "callers": ["A" * 17]}}, "callers.0 .*\nEvery"),
        ({"listen": {**GOOD["listen"], "ae_title": "A" * 17}}, "listen.ae_title is 'AAAA"),
        ({"listen": {**GOOD["listen"], "port": 70000}}, "listen.port is 70000"),
        ({"destinations": []}, "destinations; it should"),
        ({"destinations": GOOD["destinations"] * 2}, "two destinations are named web"),
        (
            {"destinations": [{"kind": "mail", "name": "web"}]},
            "destinations.0.kind is 'mail'; it should be dicom or stow\nEvery",
        ),
        ({"destinations": [{**GOOD["destinations"][0], "url": "web"}]}, "destinations.0.url"),
        ({"destinations": [{**GOOD["destinations"][0], "objects": ["page"]}]}, "objects.0"),
        ({"destinations": [{**GOOD["destinations"][0], "objects": []}]}, "objects; it should"),
        ({"retry": {"first_s": 60, "longest_s": 5}}, "first_s is 60, longest_s 5"),
        ({"retry": {"first_s": 60, "give_up_h": 0.01}}, "give_up_h 0.01"),
        ({"keep": {"images_h": 100, "results_days": 1}}, "images_h is 100"),
        (
            {"listen": {**GOOD["listen"], "port": 104}, "page": {"port": 104}},
            "listen.port and page.port are both 104",
        ),
        (
            {
                "listen": {**GOOD["listen"], "port": 104},
                "destinations": [
                    {"kind": "dicom", "name": "me", "ae_title": "HYPO", "host": "h", "port": 104}
                ],
            },
            "destination me is the node itself",
        ),
        (at("http://127.0.0.1:99999/x"), "web: url names no server and port"),
        (at("http:///x"), "web: url names no server"),
        (at("http://pacs/x?y=1"), "destinations.0.url"),
        (at("http://user:secret@pacs/x"), "web: url holds a name or a password"),
        ({"nihss_from": ["PatientComment"]}, "nihss_from has PatientComment;"),
        ({"spool": None}, "spool is None"),
    ],
)
def test_a_fault_is_said_by_its_key(tmp_path, changes, message):
    path = written(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as raised:
        settings.read(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (
            {"destinations": [{**GOOD["destinations"][0], "token_file": "none"}]},
            "destinations, web: token_file",
        ),
        ({"page": {"port": 8080, "token_file": "none"}}, "page.token_file"),
    ],
)
def test_a_token_that_is_not_there_is_told_before_the_first_result(tmp_path, changes, key):
    with pytest.raises(InputError, match=f"{key}: .*none"):
        settings.check_tokens(settings.read(written(tmp_path, **changes)))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [", "is not YAML"), (b"spool: a\nspool: b", "the key spool stands twice"),
     (b"listen: {port: 1, port: 2}", "the key port stands twice"),
     (b"\xff\xfe\x00", "is not YAML"), (b"", "expected keys"),
     (b"- 1", "expected keys"), (b"!!python/object:os.system {}", "is not YAML")],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(tmp_path, content, message):
    path = tmp_path / "node.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        settings.read(path)
    with pytest.raises(InputError, match="no such file"):
        settings.read(tmp_path / "absent.yaml")
