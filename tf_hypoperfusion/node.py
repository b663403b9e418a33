"""A DICOM node for a hospital: takes a study, sends the result back, and loses nothing.

    python -m tf_hypoperfusion.node --config=node.yaml
    python -m tf_hypoperfusion.node --config=node.yaml --status

Scanner or PACS send a study by C-STORE. Once no image came for a while, the DWI and the ADC map are
chosen as by predict, and the result goes to every destination by C-STORE or STOW-RS: segmentation,
probability, report, and a picture for viewers that show no segmentations. A study that cannot be
used is told with the reason, by a report and in the log. serving/node.yaml explains every setting;
without a model in it, the demonstration model answers, which was trained on SIMULATED patients.

All state is in the spool, a folder on a local disk: after a kill or a power cut the node takes up
where it was, and sends nothing twice. Logs are lines of JSON on standard error, and a file
audit.jsonl in the spool has a line for each answer; neither names a patient. Files are readable by
the node's user only. AE titles are no passwords: let only known machines reach the port.

Needs the extra: pip install -e '.[dicom]'. Research use only. Not a medical device; not for
clinical decisions.
"""

import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Any

from absl import flags

from data_tools.grid import UNKNOWN_SIDE
from data_tools.runtime import command, light_imports

if TYPE_CHECKING:
    from tf_hypoperfusion.hospital.spool import Spool
    from tf_hypoperfusion.hospital.study import Given

FLAGS = flags.FlagValues()
AUTO, SAID = "auto", ("side", "nihss", "age", "series")

command.heading("Node", FLAGS)
flags.DEFINE_string(
    "config", None, "<FILE> Settings, as serving/node.yaml.", required=True, flag_values=FLAGS
)
command.heading("Instead of starting it", FLAGS)
flags.DEFINE_bool("status", False, "Print the studies in the spool.", flag_values=FLAGS)
flags.DEFINE_string(
    "delete",
    None,
    "<STUDY> Delete a study from the spool: images, results and records. Its name in --status, or "
    "its StudyInstanceUID.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "again",
    None,
    "<STUDY> Have a study answered again. What --side, --nihss, --age and --series do not say "
    "stays as it was.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "side",
    None,
    ["left", "right", "bilateral", AUTO],
    f"With --again: side of the brain lesion; {AUTO} has it found from the images.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "nihss", None, "<SCORE> With --again: 0 to 42; unknown takes it back.", flag_values=FLAGS
)
flags.DEFINE_string(
    "age", None, "<YEARS> With --again: the patient's; unknown takes it back.", flag_values=FLAGS
)
flags.DEFINE_string(
    "series",
    None,
    "<NAMES> With --again: series to take where several would do, as predict --series takes them; "
    f"{AUTO} leaves the choice to the program.",
    flag_values=FLAGS,
)


def main() -> int:
    """Run the command."""
    from data_tools.runtime.errors import InputError
    from tf_hypoperfusion.hospital import settings as node_settings

    os.umask(0o077)
    for name in ("delete", "again"):
        if FLAGS[name].value == "":  # as an unset variable of a shell leaves it
            raise InputError(f"--{name} is empty; expected a study, as --status names it")
    asked = [name for name in ("status", "delete", "again") if FLAGS[name].value]
    if len(asked) > 1:
        raise InputError(f"--{' and --'.join(asked)} are given; expected one of them")
    corrected = [name for name in SAID if FLAGS[name].value is not None]
    if corrected and asked != ["again"]:
        raise InputError(f"--{corrected[0]} belongs to --again; leave it out, or name the study")
    settings = node_settings.read(FLAGS.config)
    if asked:
        _look_after(settings)
        return command.EXIT_OK
    light_imports.prepare_nibabel()
    from tf_hypoperfusion.hospital import service

    service.serve(
        settings, _places, then=command.line("node", config=FLAGS.config, given=["--status"])
    )


def _look_after(settings) -> None:
    """Do what is asked about the studies of a node, which may be running."""
    from tf_hypoperfusion.hospital import service, worklist
    from tf_hypoperfusion.hospital.audit import Audit

    spool = service.open_spool(settings, must_exist=True)
    if FLAGS.status:
        print(worklist.table(spool.worklist()))
    elif FLAGS.delete:
        Audit(spool.folder).add("deleted", study=spool.delete(FLAGS.delete))
        print("deleted; what was sent is in its destinations still")
    else:
        given = _corrected(spool)
        spool.ask_again(FLAGS.again, given)
        print(
            f"to be answered again: side {given.side or AUTO}, NIHSS "
            f"{'unknown' if given.nihss is None else given.nihss}, age "
            f"{'unknown' if given.age is None else f'{given.age:g}'}, series {given.series or AUTO}"
        )
    spool.close()


def _corrected(spool: "Spool") -> "Given":
    """What was said of the study before, with what the flags say."""
    from data_tools.cohort import number
    from data_tools.dicom import frames, study

    given = spool.given(FLAGS.again)
    said: dict[str, Any] = {
        name: FLAGS[name].value for name in SAID if FLAGS[name].value is not None
    }
    if said.get("series") not in (None, AUTO):
        images = frames.read_folder(spool.received(FLAGS.again)).frames
        study.named_series(f"study {FLAGS.again}", images, said["series"])
    for name in ("nihss", "age"):
        if name in said:
            typed = number(name, "n/a" if said[name] == UNKNOWN_SIDE else said[name])
            said[name] = int(typed) if name == "nihss" and typed is not None else typed
    taken_back = {name: None for name, value in said.items() if value == AUTO}
    return dataclasses.replace(given, **{**said, **taken_back})


def _places(node) -> str:
    """Where others reach it."""
    listen = node.settings.listen
    places = [f"{listen.ae_title} on {listen.host}:{node.port}"] if listen else []
    return ", ".join(places + ([f"page on {node.page_url}"] if node.page_url else []))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
