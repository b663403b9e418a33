"""The node as one process: what receives, what works and what sends, started and stopped."""

import importlib.util
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from data_tools.runtime import atomic, progress
from data_tools.runtime.command import EXIT_OK, next_steps
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.hospital import database
from tf_hypoperfusion.hospital.audit import LOG, Audit, log_to_standard_error, say
from tf_hypoperfusion.hospital.delivery import Sender, Senders
from tf_hypoperfusion.hospital.outbox import Outbox
from tf_hypoperfusion.hospital.receiver import Receiver
from tf_hypoperfusion.hospital.settings import Page, Settings, check_tokens
from tf_hypoperfusion.hospital.spool import Spool
from tf_hypoperfusion.hospital.worker import Worker
from tf_hypoperfusion.inference.result_folder import Backend

if TYPE_CHECKING:
    from tf_hypoperfusion.hospital.web.server import PageServer

LOOK_S = 0.2
# After a fault of the disk.
AGAIN_S = 5.0
EXPIRE_EVERY_S = 60.0
# A SIGTERM is answered within 25 s, however long a study takes.
WORKER_STOPS_S, SENDERS_STOP_S = 15.0, 3.0
GB = 1_000_000_000


def open_spool(settings: Settings, *, must_exist: bool = False) -> Spool:
    """The spool that settings name.

    Args:
        settings: of the node.
        must_exist: make none.

    Raises:
        InputError: it cannot be used, or is not there and must be.
    """
    if must_exist and not Path(settings.spool, database.FILE).is_file():
        raise InputError(
            f"{Path(settings.spool).absolute()} is no spool; expected the folder of a node that "
            "has run. Is spool right in the settings? It is looked for from the folder that the "
            "command is called in"
        )
    return Spool(settings.spool, min_free_bytes=int(settings.min_free_gb * GB))


def serve(settings: Settings, ready: Callable[["Node"], str], then: str) -> NoReturn:
    """Run a node until a signal ends it, and the process with it.

    Args:
        settings: of the node.
        ready: what is printed once it listens.
        then: what to do next, printed after it.

    Raises:
        InputError: an extra is missing, or model, spool or port cannot be used.
    """
    from tf_hypoperfusion.inference import model_backend, model_files

    log_to_standard_error()
    check_tokens(settings)
    models = model_backend.Models(
        settings.model or [str(model_files.demo_model())],
        runtime="auto", precision=None, stride=None, fast=settings.fast,
    )  # fmt: skip
    with atomic.one_writer(settings.spool):
        node = Node(settings, models.connect)
        models.begin()
        with progress.doing("loading the model"):
            models.connect().models()  # one that cannot be used ends the node before it listens
        node.stop_at_signals()
        node.start()
        print(f"{ready(node)} (process {os.getpid()}; research use only)", flush=True)
        next_steps(look_at=node.page_url, run=then)
        with progress.waiting():
            node.run()
    sys.stdout.flush()
    # All that matters is on disk. Python's own end would wait for a study that is being answered.
    os._exit(EXIT_OK)


class Node:
    """Everything of a node; all that matters is in its spool."""

    def __init__(self, settings: Settings, connect: Callable[[], Backend]) -> None:
        """Open the spool. Only one node at a time may have it.

        Args:
            settings: of the node.
            connect: gives who answers; called for each study.

        Raises:
            InputError: the extra is missing, or the spool cannot be used.
        """
        for package in ("pynetdicom", "highdicom") if settings.listen else ():
            if importlib.util.find_spec(package) is None:
                raise InputError(f"{package} is not installed; pip install -e '.[dicom]'")
        self.settings = settings
        self.spool = open_spool(settings)
        audit = Audit(self.spool.folder)
        self._receiver = Receiver(settings.listen, self.spool) if settings.listen else None
        self._worker = Worker(self.spool, settings, connect, audit)
        outbox = Outbox(self.spool)
        self._senders = Senders(
            [
                Sender(
                    to=to,
                    ae_title=settings.listen.ae_title if settings.listen else "",
                    outbox=outbox,
                    retry=settings.retry,
                    audit=audit,
                )
                for to in settings.destinations
            ]
        )
        self._page = (
            _page(settings.page, self.spool, self._worker, audit) if settings.page else None
        )
        self._asked_to_stop = False

    @property
    def port(self) -> int | None:
        """The port at which images are taken; None where there is a page only."""
        return self._receiver.port if self._receiver else None

    @property
    def page_url(self) -> str | None:
        """Where a browser finds the page; None without one."""
        return self._page.url if self._page else None

    def start(self) -> None:
        """Take up what an earlier process left, and listen.

        Raises:
            InputError: the port is taken.
        """
        left = self.spool.recover()
        if self._receiver:
            self._receiver.start()
        if self._page:
            self._page.start()
        self._worker.start()
        self._senders.start()
        say("node started", port=self.port, page=self.page_url, unfinished_runs=left)

    def stop_at_signals(self) -> None:
        """Have SIGTERM and SIGINT end :meth:`run`."""

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: self.ask_to_stop())

    def ask_to_stop(self) -> None:
        """Have :meth:`run` end."""
        # No lock, and nothing that has one: a signal may come while another one is being handled.
        self._asked_to_stop = True

    def run(self) -> None:
        """Look after the spool until the node is to stop, then stop it."""
        expired_s = 0.0
        while not self._asked_to_stop:
            time.sleep(LOOK_S)
            try:
                for study in self.spool.close_quiet(self.settings.quiet_s):
                    say("study complete", study=study)
                if time.monotonic() - expired_s >= EXPIRE_EVERY_S:
                    expired_s = time.monotonic()
                    self._expire()
            except (OSError, sqlite3.Error):  # such as a full disk: it is looked at again
                LOG.exception("spool not looked after")
                time.sleep(AGAIN_S)
        self.stop()

    def _expire(self) -> None:
        keep = self.settings.keep
        emptied, deleted = self.spool.expire(keep.images_h * 3600, keep.results_days * 86400)
        for study in emptied:
            say("images deleted", study=study)
        for study in deleted:
            say("study deleted", study=study)

    def stop(self) -> None:
        """Take no more, and end what is at work, or leave it to the next start."""
        if self._receiver:
            self._receiver.stop()
        if self._page:
            self._page.stop()
        self._worker.stop(WORKER_STOPS_S)
        self._senders.stop(SENDERS_STOP_S)
        self.spool.close()
        say("node stopped")


def _page(page: Page, spool: Spool, worker: Worker, audit: Audit) -> "PageServer":
    try:
        from tf_hypoperfusion.hospital.web.server import PageServer
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install -e '.[serve]'") from error
    return PageServer(page, spool, worker, audit)
