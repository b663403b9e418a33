"""Every command on tiny data: the longest time in which it prints nothing, and its last lines.

    python -m benchmarks.silence [--speed=0.5] [--only=train,evaluate] [--out=silence.csv]

Runs a whole study of a few SIMULATED patients, command after command, as at a terminal and as in a
log (--log). --speed=0.5 stops each process half of the time, as a machine of half the speed would
be. Servers are asked to end once they have said that they are ready.
"""

import dataclasses
import math
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time

from absl import flags

from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables
from data_tools.runtime import command, progress

FLAGS = flags.FlagValues()
flags.DEFINE_float(
    "speed", 1.0, "Share of the time that a process runs.", 0.05, 1.0, flag_values=FLAGS
)
flags.DEFINE_bool("log", False, "Output to a pipe, not a terminal.", flag_values=FLAGS)
flags.DEFINE_list("only", None, "<COMMAND,...> Report these.", flag_values=FLAGS)
flags.DEFINE_integer("lines", 4, "Last lines shown of each.", flag_values=FLAGS)
flags.DEFINE_string(
    "folder", None, "<FOLDER> Of an earlier study, which is kept.", flag_values=FLAGS
)
options.out(FLAGS)

TURN_S = 0.1
# A study, in the order in which each finds what it needs; {} is its folder.
STUDY = """
simulate --out={}/raw --patients=2 --seed=5
check-cohort --cohort={}/raw
predict --dwi={}/raw/sub-0001/dwi/sub-0001_dwi.nii.gz --nihss=12 --side=auto --out={}/result \
--adc={}/raw/sub-0001/dwi/sub-0001_ADC.nii.gz
predict --cohort={}/raw --out={}/results
preprocess --cohort={}/raw --out={}/preprocessed
preprocess --cohort={}/raw --out={}/syn --registration=syn
to-native --cohort={}/preprocessed --participant=sub-0001 --out={}/mask.nii.gz \
--image={}/preprocessed/sub-0001/sub-0001_space-MNI152NLin2009aSym_desc-brain_mask.nii.gz
simulate --out={}/dsc --patients=1 --seed=5 --dsc
perfusion --cohort={}/dsc
simulate --out={}/public --layout=isles2017 --patients=2 --coarser=3 --zip
import-public --source={}/public --out={}/imported
simulate --out={}/mni --patients=20 --space=mni
describe --cohort={}/mni
check-cohort --cohort={}/mni
build-records --cohort={}/mni --out={}/records --stride=8 --folds=3
plan --patients=100 --preset=tiny
train --fold=all --records={}/records --run={}/run --preset=tiny
evaluate --run={}/run --records={}/records
evaluate --run={}/run --records={}/records --validation
report --patients={}/run/patients.csv --out={}/run/report
calibrate --patients={}/run/validation/patients.csv --out={}/run/calibration.json
export --model={}/run/fold-0/best.keras,{}/run/fold-1/best.keras --name=mine --out={}/models
predict --model={}/models/mine --out={}/own --nihss=12 --side=left \
--dwi={}/raw/sub-0001/dwi/sub-0001_dwi.nii.gz --adc={}/raw/sub-0001/dwi/sub-0001_ADC.nii.gz
predict --model={}/run/fold-0/best.keras --out={}/own_keras --nihss=12 --side=left \
--dwi={}/raw/sub-0001/dwi/sub-0001_dwi.nii.gz --adc={}/raw/sub-0001/dwi/sub-0001_ADC.nii.gz
serve --models={}/models --port=0
app --port=0 --spool={}/spool
"""
READY = {"serve": b"REST on", "app": b"page is ready"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """What a command printed, and when.

    Attributes:
        status: it ended with.
        seconds: it took.
        silent_s: the longest time without a letter.
        after: what stood last before that.
        text: all of it.
    """

    status: int
    seconds: float
    silent_s: float
    after: str
    text: str


def main() -> None:
    """Run the study."""
    tables = Tables(FLAGS.out, (), f"at {FLAGS.speed:g} of its speed")
    with tempfile.TemporaryDirectory(prefix="hypoperfusion-") as own:
        folder = FLAGS.folder or own
        rows = []
        for line in STUDY.strip().replace("\\\n", "").splitlines():
            words = shlex.split(line.replace("{}", folder))
            if FLAGS.only and words[0] not in FLAGS.only:
                continue
            with progress.doing(" ".join(words)):
                heard = listen(
                    [sys.executable, "-m", "tf_hypoperfusion", *words],
                    terminal=not FLAGS.log, speed=FLAGS.speed, ready=READY.get(words[0]),
                )  # fmt: skip
            name = " ".join([words[0], *(each for each in words[1:] if "/" not in each)])
            rows.append({
                "command": name, "status": heard.status, "seconds": round(heard.seconds, 1),
                "silent_s": round(heard.silent_s, 1), "after": heard.after,
            })  # fmt: skip
            print(f"\n== {name}: {heard.seconds:.1f} s, silent {heard.silent_s:.1f} s after "
                  f"{heard.after!r}; status {heard.status}")  # fmt: skip
            shown = [each.split("\r")[-1] for each in heard.text.rstrip().split("\n")]
            print("\n".join(shown[-FLAGS.lines :]), flush=True)
    tables.show("silence", rows)


def listen(
    words: list[str], *, terminal: bool, speed: float = 1.0, ready: bytes | None = None
) -> Heard:
    """Run a program and note when it prints.

    Args:
        words: of its command line.
        terminal: give it one, or else a pipe.
        speed: share of the time that it runs.
        ready: once it has printed this, it is asked to end.
    """
    ear, mouth = pty.openpty() if terminal else os.pipe()
    began = last = time.monotonic()
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=mouth, stderr=mouth, start_new_session=True
    )
    os.close(mouth)
    ended = threading.Event()
    if speed < 1:
        threading.Thread(target=_slow_down, args=(process, speed, ended), daemon=True).start()
    text, longest, after, asked_s = b"", 0.0, "", math.inf
    while True:
        if time.monotonic() > asked_s:  # its handler may not have been there yet
            asked_s += 1
            process.terminate()
        if not select.select([ear], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(ear, 65536)
        except OSError:  # a terminal whose last user has gone
            piece = b""
        now = time.monotonic()
        if now - last > longest:
            longest, after = now - last, _end_of(text)
        last = now
        if not piece:
            break
        text += piece
        if ready and asked_s == math.inf and ready in text:
            asked_s = now + 1
    ended.set()
    os.close(ear)
    return Heard(
        status=process.wait(), seconds=time.monotonic() - began, silent_s=longest, after=after,
        text=text.decode(errors="replace").replace("\r\n", "\n"),
    )  # fmt: skip


def _slow_down(process: subprocess.Popen, speed: float, ended: threading.Event) -> None:
    """Stop and continue it by turns."""
    while not ended.wait(TURN_S * speed):
        try:
            os.killpg(process.pid, signal.SIGSTOP)
            ended.wait(TURN_S * (1 - speed))
            os.killpg(process.pid, signal.SIGCONT)
        except ProcessLookupError:
            return


def _end_of(text: bytes) -> str:
    return text.decode(errors="replace").replace("\r", "\n").rstrip().split("\n")[-1][-60:]


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
