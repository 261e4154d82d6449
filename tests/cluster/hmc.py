# SPDX-License-Identifier: Apache-2.0
"""A small HMC: of its web services what fence_ibmz uses, for a machine with a partition for each node."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

PORT = 6794
MACHINE = "M1"
_MACHINES = "/api/cpcs"
_PARTITIONS = f"/api/cpcs/{MACHINE}/logical-partitions"


class Partition(Protocol):
    """What an HMC can do with a node."""

    @property
    def on(self) -> bool:
        """Whether it has power."""

    def cut_power(self) -> None:
        """Take its power away; nothing if it has none."""

    def power_on(self) -> None:
        """Begin to boot it; nothing if it has power."""


class Hmc:
    """The HMC, which serves ``listening`` until `stop`."""

    def __init__(
        self, directory: Path, listening: socket.socket, partitions: Mapping[str, Partition]
    ) -> None:
        self.asked: list[str] = []
        """The requests that it was sent, the oldest first."""
        self.answers = True
        """Whether it answers at all. A request that it has not answered is lost."""
        address = listening.getsockname()[0]
        self.certificate = directory / "hmc.crt"
        key = directory / "hmc.key"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=hmc"]
        words += ["-addext", f"subjectAltName=IP:{address}"]
        words += ["-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._silent = threading.Event()
        hmc = self

        class Handler(_Handler):
            @property
            def hmc(self) -> Hmc:
                return hmc

        Handler.partitions = partitions
        server = _Server(listening.getsockname()[:2], Handler, bind_and_activate=False)
        server.socket.close()
        # The handshake is the handler's affair: one client that says nothing holds up no other.
        server.socket = context.wrap_socket(listening, server_side=True, do_handshake_on_connect=False)
        server.daemon_threads = True
        self._server = server
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Serve no longer."""
        self._silent.set()
        self._server.shutdown()
        self._server.server_close()

    def is_silent(self) -> bool:
        """Whether a request gets no answer; returns when the HMC answers others, or ends."""
        silent = not self.answers
        while not self.answers and not self._silent.wait(0.1):
            pass
        return silent


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client may end at any moment."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    partitions: Mapping[str, Partition]

    @property
    def hmc(self) -> Hmc:
        raise NotImplementedError

    def log_message(self, *_: object) -> None:
        self.hmc.asked.append(f"{self.command} {self.path}")

    def do_DELETE(self) -> None:
        self._answer(204)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == _MACHINES:
            machine = {"name": MACHINE, "object-uri": f"{_MACHINES}/{MACHINE}", "status": "operating"}
            self._answer(200, {"cpcs": [{**machine, "dpm-enabled": False}]})
        elif url.path == _PARTITIONS:
            named = parse_qs(url.query).get("name", [*self.partitions])
            found = [self._partition(name) for name in named if name in self.partitions]
            self._answer(200 if found else 404, {"logical-partitions": found})
        elif url.path == "/api/jobs/1":
            self._answer(200, {"status": "complete", "job-status-code": 204})
        else:
            self._answer(404, {"reason": 1, "message": "no such object"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/api/sessions":
            self._answer(200, {"api-session": "s1"})
            return
        *_, name, _, operation = self.path.split("/")
        partition = self.partitions[name]
        if self.hmc.is_silent():  # one that does not answer does nothing, either
            self.close_connection = True
            return
        if operation == "deactivate":
            partition.cut_power()
        elif operation == "load":
            partition.power_on()
        self._answer(202, {"job-uri": "/api/jobs/1"})

    def _partition(self, name: str) -> dict[str, str]:
        status = "operating" if self.partitions[name].on else "not-activated"
        return {"name": name, "object-uri": f"/api/logical-partitions/{name}", "status": status}

    def _answer(self, code: int, document: object = None) -> None:
        if self.hmc.is_silent():
            self.close_connection = True
            return
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
