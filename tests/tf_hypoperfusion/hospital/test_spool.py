"""The spool: what is kept, whose turn it is, and what a kill leaves. No DICOM, no network."""

import json
import stat

import pytest

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.hospital import worker
from tf_hypoperfusion.hospital.outbox import Outbox
from tf_hypoperfusion.hospital.spool import Spool, study_name
from tf_hypoperfusion.hospital.study import Earlier, Given, Outcome, ReceivedImage, ResultObject
from tf_hypoperfusion.hospital.worklist import table

REFUSED = Outcome(state="refused", reason="it is odd")
ANSWERED = Outcome(state="answered", verdict="yes", warnings=("look",))


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spool(tmp_path, clock):
    return Spool(tmp_path / "spool", clock=clock)


def image(uid, study="1.2", content=b"image"):
    return ReceivedImage(study_uid=study, uid=uid, content=content, caller="SCANNER")


def begun(spool, clock, uid="1.2.1"):
    """A study of one image whose turn it is."""
    spool.receive(image(uid))
    clock.now += 10
    spool.close_quiet(5)
    return spool.next_run()


def test_a_run_knows_of_the_answer_before_it_and_what_is_new(spool, clock):
    first = begun(spool, clock)
    assert first.earlier is None and worker._replaced(first) is None
    spool.finish(first, ANSWERED, [])
    at_s = clock.now
    grown = begun(spool, clock, "1.2.2")
    assert grown.earlier == Earlier(ended_s=at_s, state="answered")
    assert worker._replaced(grown).why == "images"
    spool.finish(grown, REFUSED, [])
    spool.ask_again("1.2", Given(side="left"))
    asked = spool.next_run()
    assert asked.earlier == grown.earlier and worker._replaced(asked).why == "person"
    assert "a person gave or corrected side" in worker._replaced(asked).words


def test_an_answer_knows_of_a_refusal_that_was_told(spool, clock):
    run, outbox = begun(spool, clock), Outbox(spool)
    spool.finish(run, REFUSED, [result_of(spool, run, destinations=("pacs",))])
    outbox.sent(outbox.due("pacs")[0])
    grown = begun(spool, clock, "1.2.2")
    assert grown.earlier == Earlier(ended_s=clock.now - 10, state="refused")
    words = worker._replaced(grown).words
    assert "the report of" in words and "that the study cannot be used: more images came" in words


def test_a_spool_that_is_open_to_others_is_closed_to_them(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o777)
    Spool(tmp_path / "spool").close()
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def result_of(spool, run, uid="9.1", destinations=("pacs", "web"), due_s=0.0):
    path = run.results / f"{uid}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"object")
    return ResultObject(
        uid=uid, sop_class="1.9", name="report", file=path, destinations=destinations, due_s=due_s
    )


def state_of(spool):
    (row,) = spool.worklist()
    return row.state


def test_a_study_is_complete_after_a_quiet_time(spool, clock):
    assert spool.receive(image("1.2.1")) and spool.receive(image("1.2.2", content=b"other"))
    assert state_of(spool) == "receiving" and spool.next_run() is None
    clock.now += 4
    spool.receive(image("1.2.3"))
    clock.now += 4
    assert spool.close_quiet(5) == []
    clock.now += 1
    assert spool.close_quiet(5) == [study_name("1.2")]
    run = spool.next_run()
    assert (run.study, run.number, run.starts) == (study_name("1.2"), 1, 1)
    assert sorted(path.read_bytes() for path in run.images.iterdir()) == [
        b"image", b"image", b"other"
    ]  # fmt: skip
    assert spool.next_run() is None and state_of(spool) == "running"


def test_an_image_that_comes_twice_is_kept_once(spool, clock):
    run = begun(spool, clock)
    assert not spool.receive(image("1.2.1", content=b"another"))
    assert state_of(spool) == "running"
    assert [path.read_bytes() for path in run.images.iterdir()] == [b"image"]


def test_only_the_owner_can_look_in(spool):
    spool.receive(image("1.2.1"))
    for each in (spool.folder, spool.folder / "received", spool.folder / "results"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700


def test_a_result_is_due_once_for_each_destination(spool, clock):
    run, outbox = begun(spool, clock), Outbox(spool)
    assert spool.finish(run, ANSWERED, [result_of(spool, run)])
    assert state_of(spool) == "answered"
    for name, state in (("pacs", None), ("web", "sent")):
        (delivery,) = outbox.due(name)
        assert delivery.uid == "9.1" and delivery.study_uid == "1.2" and delivery.tries == 0
        outbox.begin(delivery)
        assert outbox.due(name)[0].tries == 1  # a kill now leaves this
        assert outbox.sent(delivery) == state
        assert outbox.due(name) == []
    assert state_of(spool) == "sent"


def test_a_destination_that_does_not_take_it_is_tried_later_and_given_up_in_the_end(spool, clock):
    run, outbox = begun(spool, clock), Outbox(spool)
    spool.finish(run, ANSWERED, [result_of(spool, run, destinations=("pacs",))])
    (delivery,) = outbox.due("pacs")
    outbox.postpone(delivery, "away", 60)
    assert outbox.due("pacs") == [] and spool.worklist()[0].undelivered == {"pacs": "away"}
    clock.now += 60
    (delivery,) = outbox.due("pacs")
    assert outbox.destinations(delivery.study) == {"to": ["pacs"]}
    assert outbox.give_up(delivery, "away for days") == "failed"
    assert outbox.destinations(delivery.study) == {"to": [], "not_to": ["pacs"]}
    assert outbox.due("pacs") == [] and state_of(spool) == "failed"


def test_images_that_come_while_it_runs_undo_that_run(spool, clock):
    run = begun(spool, clock)
    spool.receive(image("1.2.2"))
    assert state_of(spool) == "receiving"
    assert not spool.finish(run, ANSWERED, [result_of(spool, run)])
    assert Outbox(spool).due("pacs") == []
    clock.now += 10
    spool.close_quiet(5)
    assert spool.next_run().number == 2


def test_the_same_result_of_a_study_that_grew_is_not_sent_again(spool, clock):
    run, outbox = begun(spool, clock), Outbox(spool)
    spool.finish(run, ANSWERED, [result_of(spool, run, destinations=("pacs",))])
    outbox.sent(outbox.due("pacs")[0])
    again = begun(spool, clock, "1.2.2")
    assert again.number == 2
    assert spool.finish(again, ANSWERED, [result_of(spool, again, destinations=("pacs",))])
    assert outbox.due("pacs") == [] and state_of(spool) == "sent"
    third = begun(spool, clock, "1.2.3")
    spool.finish(third, ANSWERED, [result_of(spool, third, "9.2", destinations=("pacs",))])
    assert [each.uid for each in outbox.due("pacs")] == ["9.2"]


def test_a_result_that_comes_back_opens_nothing(spool, clock):
    run = begun(spool, clock)
    spool.finish(run, ANSWERED, [result_of(spool, run)])
    assert not spool.receive(image("9.1"))
    assert state_of(spool) == "answered"


def test_a_refusal_waits_and_is_withdrawn_when_more_images_come(spool, clock):
    run, outbox = begun(spool, clock), Outbox(spool)
    refused = Outcome(state="refused", reason="no DWI")
    due = clock.now + 600
    spool.finish(run, refused, [result_of(spool, run, destinations=("pacs",), due_s=due)])
    assert outbox.due("pacs") == [] and spool.worklist()[0].reason == "no DWI"
    clock.now += 300
    again = begun(spool, clock, "1.2.2")
    clock.now += 600
    assert outbox.due("pacs") == []
    # Refused for the same reason once more: the same report, which nobody has had.
    spool.finish(again, refused, [result_of(spool, again, destinations=("pacs",), due_s=clock.now)])
    assert [each.uid for each in outbox.due("pacs")] == ["9.1"]
    outbox.sent(outbox.due("pacs")[0])
    assert state_of(spool) == "refused"


def test_a_start_takes_up_what_a_kill_left(tmp_path, spool, clock):
    run = begun(spool, clock)
    half = spool.folder / "received" / run.study / ".tmp-1-half.dcm"
    half.write_bytes(b"ha")
    (spool.folder / "received" / run.study / "unnamed.dcm").write_bytes(b"never answered for")
    (spool.folder / "results/gone").mkdir()
    spool.close()
    later = Spool(tmp_path / "spool", clock=clock)
    assert later.recover() == 1
    assert [path.read_bytes() for path in run.images.iterdir()] == [b"image"]
    assert not (spool.folder / "results/gone").exists()
    again = later.next_run()
    assert (again.id, again.number, again.starts) == (run.id, 1, 2)


def test_a_run_that_is_put_back_was_not_begun(spool, clock):
    run = begun(spool, clock)
    spool.put_back(run, 30)
    assert spool.next_run() is None
    clock.now += 30
    again = spool.next_run()
    assert (again.id, again.starts) == (run.id, 1)


def test_images_and_then_all_of_a_study_are_deleted_in_time(spool, clock):
    run, outbox = begun(spool, clock), Outbox(spool)
    spool.finish(run, ANSWERED, [result_of(spool, run, destinations=("pacs",))])
    clock.now += 100
    assert spool.expire(50, 500) == ([], [])  # what was not sent is kept
    outbox.sent(outbox.due("pacs")[0])
    clock.now += 49
    assert spool.expire(50, 500) == ([], [])
    clock.now += 1
    assert spool.expire(50, 500) == ([run.study], []) and not run.images.exists()
    with pytest.raises(InputError, match="images were deleted"):
        spool.ask_again(run.study, Given())
    assert spool.receive(image("1.2.1")) and state_of(spool) == "sent"  # sent again: kept, no news
    spool.ask_again(run.study, Given(side="left", nihss=4))
    clock.now += 1000
    assert spool.expire(50, 500) == ([], [])  # its turn comes first
    again = spool.next_run()
    assert (again.side, again.nihss) == ("left", 4)
    spool.finish(again, ANSWERED, [])
    clock.now += 500
    assert spool.expire(50, 500) == ([], [run.study])
    assert spool.worklist() == [] and list((spool.folder / "results").iterdir()) == []


def test_a_study_can_be_deleted_at_any_time_and_nothing_of_it_is_left(spool, clock):
    run = begun(spool, clock)
    object_file = result_of(spool, run)
    spool.delete("1.2")
    assert not spool.finish(run, ANSWERED, [object_file])
    assert spool.worklist() == [] and not run.images.exists() and not run.results.exists()
    for path in spool.folder.glob("spool.sqlite*"):
        assert b"1.2.1" not in path.read_bytes(), path
    with pytest.raises(InputError, match="none in the spool"):
        spool.delete("1.2")


def test_a_study_goes_by_the_beginning_of_its_name(spool):
    for study in ("1.2", "1.3"):
        spool.receive(image(f"{study}.1", study))
    name = study_name("1.3")
    assert spool.find(name[:9]) == spool.find("1.3") == name
    for wrong in ("", "%", "no"):
        with pytest.raises(InputError):
            spool.find(wrong)


def test_no_image_is_taken_where_too_little_stays_free(tmp_path):
    spool = Spool(tmp_path / "spool", min_free_bytes=10**18)
    with pytest.raises(OSError, match="min_free_gb"):
        spool.receive(image("1.2.1"))
    assert spool.worklist() == []


def test_a_name_of_an_image_leads_nowhere_else(spool, tmp_path):
    spool.receive(image("../../../escaped", study="../../away"))
    files = [path for path in tmp_path.rglob("*") if path.suffix == ".dcm"]
    assert len(files) == 1 and files[0].parent.parent == spool.folder / "received"


def test_a_file_that_is_no_spool_is_refused(tmp_path):
    (tmp_path / "spool.sqlite").write_bytes(b"something else, and longer than a header" * 30)
    with pytest.raises(InputError, match="expected the node's own database"):
        Spool(tmp_path)


def test_a_spool_of_another_version_is_refused(tmp_path):
    spool = Spool(tmp_path)
    with spool.database.transaction() as connection:
        connection.execute("PRAGMA user_version=99")
    spool.close()
    with pytest.raises(InputError, match="version 99"):
        Spool(tmp_path)


def test_the_table_shows_every_study_and_why(spool, clock):
    assert table(spool.worklist()) == "no studies"
    run = begun(spool, clock)
    spool.finish(run, Outcome(state="refused", reason="no DWI\nin it"), [])
    lines = table(spool.worklist()).splitlines()
    assert len(lines) == 2 and lines[1].startswith(run.study)
    assert lines[1].endswith("no DWI in it") and "refused" in lines[1]
    assert json.dumps(lines)
