"""A page to drop a patient's files on, and to read the result: for those who type no commands.

    python -m tf_hypoperfusion.app

Open the address that it prints in a browser. Drag DWI and ADC map onto the page as NIfTI, or a
folder of DICOM files, or a zip of either; confirm what was taken for what; give side, NIHSS and age
or leave them; read the report. The page works offline, and what is dropped stays on this machine:
in the spool, a folder that only its user can read. A study that was started is finished even after
a kill. Images are deleted 24 hours after they were answered, results after 30 days.

Without --model the demonstration model answers, which was trained on SIMULATED patients only: its
result on a real patient means nothing.

Others can reach the page only with --host and a password for them, --token_file. It speaks plain
HTTP: put TLS in front of it. A DICOM node has the same page, with its own studies in the list
(page: in node.yaml); this command needs none.

Needs the extra: pip install -e '.[serve]', and for DICOM files '.[serve,dicom]'. Research use only.
Not a medical device; not for clinical decisions.
"""

import os
import sys

from absl import flags

from data_tools.runtime import command, light_imports
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()

command.heading("Page", FLAGS)
flags.DEFINE_string(
    "spool",
    None,
    "<FOLDER> Of everything that is dropped, on a local disk. Without it, hypoperfusion/spool in "
    "the user's own folder for data ($XDG_DATA_HOME, or ~/.local/share).",
    flag_values=FLAGS,
)
flags.DEFINE_string("host", "127.0.0.1", "<ADDRESS> Address to listen on.", flag_values=FLAGS)
flags.DEFINE_integer("port", 8080, "Port; 0 picks a free one.", 0, 65535, flag_values=FLAGS)
flags.DEFINE_string(
    "token_file",
    None,
    "<FILE> Its first line is the password, 8 letters or more. Needed for any other host than this "
    "machine.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "names",
    None,
    "<NAME,...> By which browsers may call this machine, besides localhost and addresses.",
    flag_values=FLAGS,
)
command.heading("Model", FLAGS)
flags.DEFINE_list(
    "model",
    None,
    "<PATH,...> As predict --model takes them. Without it, the demonstration model, trained on "
    "simulated patients only.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean("fast", False, "Compute less, as predict --fast.", flag_values=FLAGS)


EXPECTED = {
    "spool": "a folder",
    "host": "an address of this machine",
    "token_file": "a file with the password",
    "names": "names of this machine",
    "model": "files or folders of models",
}


def main() -> None:
    """Run the command."""
    os.umask(0o077)
    for name, expected in EXPECTED.items():
        if FLAGS[name].value in ("", []):
            raise InputError(f"--{name} is empty; expected {expected}, or leave it out")
    light_imports.prepare_nibabel()
    from tf_hypoperfusion.hospital import service
    from tf_hypoperfusion.hospital.settings import Page, Settings

    settings = Settings(
        spool=FLAGS.spool or _own_folder(),
        page=Page(
            port=FLAGS.port,
            host=FLAGS.host,
            token_file=FLAGS.token_file,
            names=tuple(FLAGS.names or ()),
        ),
        model=tuple(FLAGS.model or ()),
        fast=FLAGS.fast,
    )
    service.serve(
        settings,
        lambda node: "the page is ready",
        then="drop a patient's files on the page; Ctrl-C here ends it",
    )


def _own_folder() -> str:
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "hypoperfusion", "spool")


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
