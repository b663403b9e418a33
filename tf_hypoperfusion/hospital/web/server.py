"""The page as a server in a thread of its own."""

import contextlib
import ipaddress
import logging
import re
import socket
import threading
from collections.abc import Sequence

import uvicorn

from data_tools.runtime.errors import InputError, counted
from tf_hypoperfusion.hospital.audit import Audit
from tf_hypoperfusion.hospital.settings import Page
from tf_hypoperfusion.hospital.spool import Spool
from tf_hypoperfusion.hospital.web import pages
from tf_hypoperfusion.hospital.web.dropped import Drops
from tf_hypoperfusion.hospital.web.guard import Rules
from tf_hypoperfusion.hospital.worker import Worker
from tf_hypoperfusion.inference import rest_client
from tf_hypoperfusion.serving.server.http_protocol import OneLength, TimedProtocol

STOP_S = 3
# For all files of a drop: 4 GiB at 20 Mbit/s.
BODY_S = 1800.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LEAST_PASSWORD = 8
NAME = re.compile(r"(?=.{1,253}$)(?!-)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
# Of documents, and nobody's: nothing is sent there.
NOBODY = ("192.0.2.1", 9)


class UploadProtocol(TimedProtocol):
    """A client that sends nothing, or no end, holds nothing for long; large files may take time."""

    body_s = BODY_S


class PageServer:
    """The page of a spool: :meth:`start`, then :meth:`stop`.

    Args:
        page: where it listens, and its password.
        spool: whose studies it shows.
        worker: that answers them.
        audit: gets a line for each study that came, was asked again or deleted.

    Raises:
        InputError: the address cannot be listened on, or is open to others without a password, or
            with a short one; a name is none.
    """

    def __init__(self, page: Page, spool: Spool, worker: Worker, audit: Audit):
        if page.host not in LOOPBACK and page.token_file is None:
            raise InputError(
                f"the page is to listen on {page.host}, where others can reach it; expected a file "
                "with a password for them: give --token_file (page.token_file of node.yaml)"
            )
        token = None if page.token_file is None else _password(page.token_file)
        _check_names(page.names)
        self._drops = Drops(spool)
        self._page = page
        self._socket = _bound(page.host, page.port)
        self.url = _url(page.host, *self._socket.getsockname()[:2])
        rules = Rules(names=(*page.names, page.host), token=token)
        app = pages.application(pages.Shown(spool, self._drops, worker, audit), rules)
        # What fails is logged where it is answered.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = uvicorn.Server(
            uvicorn.Config(
                OneLength(app),
                http=UploadProtocol,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=STOP_S,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="page", daemon=True
        )

    def start(self) -> None:
        """Answer from now on.

        Raises:
            InputError: another program listens there meanwhile.
        """
        try:
            self._socket.listen(self._server.config.backlog)
        except OSError as error:
            raise _cannot_listen(self._page.host, self._page.port, error) from error
        self._drops.clear()
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked, and end; a drop that is not started is gone."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_S + 1)
        self._socket.close()
        self._drops.clear()


def _password(file: str) -> str:
    token = rest_client.read_token(file)
    if len(token) < LEAST_PASSWORD:
        raise InputError(
            f"the password in {file} has {counted(len(token), 'letter')}; expected "
            f"{LEAST_PASSWORD} and more, since many can be tried: such as 18 random bytes, "
            f"head -c 18 /dev/urandom | base64 > {file}"
        )
    return token


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is no name of a machine; expected such as hypo.example, without "
                "http://, port or path: see --names (page.names of node.yaml)"
            )


def _url(host: str, address: str, port: int) -> str:
    """Where a browser finds the page: this machine's address where it listens on every one."""
    if ipaddress.ip_address(address).is_unspecified:
        host = _own_address()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _own_address() -> str:
    """The address by which others on the network know this machine; its own where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked, contextlib.suppress(OSError):
        asked.connect(NOBODY)
        return str(asked.getsockname()[0])
    return "127.0.0.1"


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        return listening
    except OSError as error:
        raise _cannot_listen(host, port, error) from error


def _cannot_listen(host: str, port: int, error: OSError) -> InputError:
    return InputError(
        f"the page cannot listen on {host}, port {port} ({error.strerror or error}); expected "
        "an address of this machine and a free port: choose another, or port 0 for any"
    )
