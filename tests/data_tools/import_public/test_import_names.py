"""Names in archives -> sets, patients and roles; zip files that are damaged, hostile or foreign."""

import gzip
import zipfile

import pytest

from data_tools.import_public import matching, sets, sources
from data_tools.runtime.errors import InputError

pytestmark = pytest.mark.quick

VSD = "VSD.Brain.XX.O"


def isles(number, prefix="training"):
    here = f"{prefix}_{number}"
    kinds = ("MR_ADC", "MR_4DPWI", "MR_Tmax", "MR_rCBF", "OT")
    return [f"{here}/{VSD}.{kind}.{7 * k}/{VSD}.{kind}.{7 * k}.nii" for k, kind in enumerate(kinds)]


def spes(folder):
    kinds = ("MR_DWI", "MR_Tmax", "MR_T2", "MR_T1c", "OT", "OT.8_corelabel", "OT.9_mergedlabels")
    return [f"{folder}/{VSD}.{kind}/{VSD}.{kind}.nii" for kind in kinds]


@pytest.fixture
def tree(tmp_path):
    """Empty files below a folder of a name; returns it."""

    def make(root, names):
        for name in names:
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return str(tmp_path / root)

    return make


def patients(source, said=None):
    return matching.patients(source, sources.members(source), said)


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("VSD.Brain.XX.O.MR_Tmax.128020/VSD.Brain.XX.O.MR_Tmax.128020.nii", sets.TMAX),
        ("SMIR.Brain.XX.O.MR_4DPWI.127015/SMIR.Brain.XX.O.MR_4DPWI.127015.nii", sets.SERIES),
        ("MR_ADC.nii.gz", sets.ADC),
        ("VSD.Brain.XX.O.OT.128050/VSD.Brain.XX.O.OT.128050.nii", sets.OUTCOME),
        ("VSD.Brain.XX.O.MR_Tmax.128020/VSD.Brain.XX.O.OT.128050.nii", sets.OUTCOME),
        ("ot128050.nii", sets.OUTCOME),
        ("Tmax_OT.nii", sets.OUTCOME),
        ("mergedlabels/x.mha", sets.MERGED_LABELS),
        ("VSD.Brain_3more.XX.XX.OT.70_corelabel/x.nii", sets.CORE_LABEL),
        ("VSD.Brain.XX.O.MR_T2.7/a.nii", "T2"),
        ("MR_DWI/VSD.Brain.XX.O.MR_DWI.7.nii", sets.DWI),
        ("dwi/sub-strokecase0001_ses-0001_adc.nii.gz", sets.ADC),
        ("other_notes.nii", None),  # "ot" inside of words
        ("DWI_ADC.nii", None),
    ],
)
def test_a_file_is_what_whole_words_of_its_name_say(path, role):
    assert matching.role_of(path.split("/")) == role


def test_isles_2017_is_known_by_its_folders_and_what_does_not_exist_is_not_missed(tree):
    names = [
        *isles(1),
        *isles(2),
        *isles(4),
        "training_1/x/license.txt",
        "__MACOSX/training_9/a.nii",
    ]
    found = patients(tree("ISLES2017_Training", names))
    assert [each.name for each in found] == [f"sub-isles2017train0{k}" for k in (1, 2, 4)]
    assert all(sets.OUTCOME in each.files and not each.unknown for each in found)
    found = patients(tree("ISLES2017_Testing", isles(3, "test")))
    assert [each.name for each in found] == ["sub-isles2017test03"]


def test_spes_is_known_by_numbers_and_its_label_bears_the_word_ot(tree):
    found = patients(tree("SPES2015_Training", [*spes("1"), *spes("30")]))
    assert [each.name for each in found] == ["sub-spestrain01", "sub-spestrain30"]
    assert {sets.LABEL, sets.CORE_LABEL, sets.MERGED_LABELS} < found[0].files.keys()
    found = patients(tree("elsewhere", spes("Nr7")))
    assert [each.name for each in found] == ["sub-spestest07"]


def test_isles_2022_joins_images_and_masks_of_two_trees(tree):
    stem = "sub-strokecase0007"
    names = [f"{stem}/ses-0001/dwi/{stem}_ses-0001_{kind}.nii.gz" for kind in ("dwi", "adc")]
    names.append(f"derivatives/{stem}/ses-0001/{stem}_ses-0001_msk.nii.gz")
    (found,) = patients(tree("ISLES-2022", names))
    assert found.name == "sub-isles20220007"
    assert found.files.keys() == {sets.DWI, sets.ADC, sets.LESION}


@pytest.mark.parametrize(
    ("root", "names", "said", "told"),
    [
        ("archive", isles(1), None, "no name says which; expected the year"),
        ("ISLES2017", isles(1), "spes", "holds ISLES 2017 by the names of its files, and --set"),
        ("ISLES2017", isles(1), "isles2016", "leave --set out"),
        ("all", [f"ISLES2016/{n}" for n in isles(1)] + [f"ISLES2017/{n}" for n in isles(1)], None,
         "more than one set"),
        ("all", [*spes("1"), *isles(1)], None, "more than one set"),
        ("ISLES2024", ["sub-stroke0001/ses-01/sub-stroke0001_ses-01_ctp.nii.gz",
                       "sub-stroke0001/ses-02/sub-stroke0001_ses-02_dwi.nii.gz"], None, "CT perf"),
        ("ISLES2018", ["TRAINING/case_1/SMIR.Brain.XX.O.CT_4DPWI.3/a.nii"], None,
         "ISLES 2018 or ISLES 2024; it has no .* together with Tmax, so it cannot be used"),
        ("ISLES2018", ["case_1/OT.nii", "case_1/Tmax.nii"], None, "a set of CT perfusion"),
        ("mine", ["case_1/MR_Tmax.nii", "case_1/MR_ADC.nii"], None, "rename them so"),
        ("SISS", ["1/MR_DWI.nii", "1/MR_Flair.nii"], None, "SISS"),
        ("cohort", ["sub-01/dwi/sub-01_dwi.nii.gz", "sub-01/dwi/sub-01_adc.nii.gz"], None, "needs"),
        ("photos", ["2017/beach.nii"], None, "no patients that are recognised"),
        ("empty", ["readme.txt"], None, "holds no images"),
        ("zips", ["ISLES2017_Training.zip"], None, "expected the zip itself"),
        ("two", [*(f"ISLES2017/a/{n}" for n in isles(1)), *(f"ISLES2017/b/{n}" for n in isles(1))],
         None, "stands in 2 folders"),
    ],
)  # fmt: skip
def test_what_is_no_set_or_two_is_said_in_a_sentence(tree, root, names, said, told):
    with pytest.raises(InputError, match=told):
        patients(tree(root, names), said)


@pytest.mark.parametrize(
    ("root", "folder", "more", "said"),
    [
        ("SPES2015_Training", "1", f"{VSD}.MR_rCBF.7.nii", None),
        ("elsewhere", "1", f"{VSD}.MR_MTT.7/a.nii", "spes"),
        ("SPES2015_Training", "1", "MR_rCBV128.nii", "spes"),
        ("SPES2015_Training", "1", "SMIR.Brain.XX.O.MR_TTP.7.nii", None),
        ("elsewhere", "1", f"{VSD}.MR_4DPWI.7.nii", "spes"),
        ("SPES2015_Training", "1", f"{VSD}.MR_4DPWI.7.nii", None),
        ("SPES2015_Training", "1", f"{VSD}.MR_ADC.7.nii", None),
        ("SPES2015_Training", "training_1", "a.nii", None),
        ("ISLES2017_Training", "1", "a.nii", None),
    ],
)
def test_what_has_names_of_2017_is_not_spes(tree, root, folder, more, said):
    source = tree(root, [*spes(folder), f"{folder}/{more}"])
    with pytest.raises(InputError, match=r"is not ISLES 2015 SPES|and --set says ISLES 2015 SPES"):
        patients(source, said)


def test_where_no_year_is_in_a_name_a_person_says_it(tree):
    (found,) = patients(tree("archive", isles(1)), "isles2016")
    assert found.name == "sub-isles2016train01"


def test_a_zip_and_a_folder_are_the_same_list(tree, tmp_path):
    folder = tree("ISLES2017_Training", [*isles(1), "training_1/.DS_Store"])
    with zipfile.ZipFile(tmp_path / "ISLES2017_Training.zip", "w") as archive:
        for name in isles(1):
            archive.writestr(name, b"x")
            archive.writestr(f"__MACOSX/{name}", b"x")
    one, other = patients(folder), patients(str(tmp_path / "ISLES2017_Training.zip"))
    assert [(e.name, e.files.keys()) for e in one] == [(e.name, e.files.keys()) for e in other]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("half.zip", None, "is no whole zip file .*download it again"),
        ("empty.zip", b"", "is no whole zip file"),
        ("a.tar.gz", b"x", "is no zip file; expected the downloaded zip"),
        ("absent.zip", ..., "no such file or folder"),
    ],
)
def test_what_is_no_whole_zip_is_refused(tmp_path, name, content, told):
    path = tmp_path / name
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("training_1/MR_ADC.nii", bytes(1000))
        content = path.read_bytes()[:-30]
    if content is not ...:
        path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        sources.members(path)


@pytest.mark.parametrize(
    ("begins", "told"),
    [
        (b"Rar!\x1a\x07", "is a RAR archive.*Unpack it with another"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
        (gzip.compress(b"x", mtime=0), "is a gzip archive"),
        (b"\n<!DOCTYPE html>", "is a web page.*by the link of the file itself"),
        (b"<HTML><body>", "is a web page"),
    ],
)
def test_another_file_named_as_a_zip_is_called_what_it_is(tmp_path, begins, told):
    path = tmp_path / "ISLES2017_Training.zip"
    path.write_bytes(begins + bytes(100))
    with pytest.raises(InputError, match=told):
        sources.members(path)


def test_zips_that_are_not_given_themselves_are_all_named(tree, tmp_path):
    folder = tree("zips", ["b.zip", "a/ISLES2017_Training.zip", "readme.txt"])
    with pytest.raises(InputError) as raised:
        sources.members(folder)
    expected = f"the zips themselves: --source={folder}/a/ISLES2017_Training.zip,{folder}/b.zip"
    assert str(raised.value).endswith(expected)
    with pytest.raises(InputError, match=r"a zip that holds other zips \(in/ISLES2017.zip\)"):
        zipped(tmp_path / "outer.zip", {"in/ISLES2017.zip": b"x", "readme.txt": b"x"})


@pytest.mark.parametrize("end", [".part", ".crdownload", ".aria2"])
def test_an_unfinished_download_is_called_so(tree, end):
    folder = tree("downloads", [f"x.zip{end}"])
    for source in (folder, f"{folder}/x.zip{end}", f"{folder}/x.zip"):
        with pytest.raises(InputError, match=f"x.zip{end} is an unfinished download"):
            sources.members(source)


def test_an_unfinished_download_beside_a_whole_one_is_not_passed_over(tree):
    folder = tree("downloads", ["ISLES2017_Training.zip", "SPES2015_Training.zip.part"])
    with pytest.raises(InputError, match=r"SPES2015_Training.zip.part is an unfinished download"):
        sources.archives(folder)


def test_an_encrypted_zip_is_told_once_and_before_anybody_is_read(tmp_path):
    path = tmp_path / "ISLES2017_Training.zip"
    zipped(path, {name: b"x" for name in isles("training_1")})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # as the first entry's flags say it
    path.write_bytes(content)
    with pytest.raises(InputError, match="ISLES2017_Training.zip: is encrypted; unpack it with"):
        sources.members(path)


def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return sources.members(path)


def test_a_name_that_leads_out_of_the_folder_does_not(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("../../evil.nii", "/abs/evil.nii", "training_1/../../../evil.nii"):
        (member,) = zipped(tmp_path / "x.zip", {name: b"x" * 5})
        assert sources.copied(member, tmp_path / "in", "image-1") == tmp_path / "in/image-1.nii"
    assert sorted(p.name for p in tmp_path.rglob("*.nii")) == ["image-1.nii"]


def test_a_bomb_ends_at_a_fixed_size(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 1 << 20)
    bomb = bytes(3 << 20)
    (tmp_path / "in").mkdir()
    for name, content in {"a.nii": bomb, "b.nii.gz": gzip.compress(gzip.compress(bomb, mtime=0)),
                          "c.nii.gz": gzip.compress(bomb, mtime=0)}.items():  # fmt: skip
        (member,) = zipped(tmp_path / "x.zip", {name: content})
        if name == "b.nii.gz":  # a bomb in a bomb is only bytes
            sources.copied(member, tmp_path / "in", "image")
            continue
        with pytest.raises(InputError, match="has more than .* expected an image of a head"):
            sources.copied(member, tmp_path / "in", "image")


def test_a_damaged_member_is_named(tmp_path):
    (member,) = zipped(
        tmp_path / "x.zip", {"training_1/MR_ADC.nii.gz": gzip.compress(b"x" * 99, mtime=0)[:20]}
    )
    with pytest.raises(InputError, match="training_1/MR_ADC.nii.gz: is damaged or ends too early"):
        sources.copied(member, tmp_path, "image")
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[45] ^= 255
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InputError, match="damaged|cannot be unpacked"):
        sources.copied(member, tmp_path, "image")
