"""TLS in front of a server that speaks none: the bundled Redis is built without it."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["self_signed", "tls_proxy"]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Return the files of a certificate for this machine's loopback address, and of its key."""
    openssl = shutil.which("openssl")
    assert openssl, "openssl is missing: apt install openssl"
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    made = ("-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "1")
    subprocess.run([openssl, "req", *made, *subject], check=True, capture_output=True)
    return certificate, key


@contextmanager
def tls_proxy(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Take TLS connections while inside, hand what they say to a local port; yield where they are taken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, context, port), daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):
        while True:
            taken, _ = listener.accept()
            threading.Thread(target=_join, args=(taken, context, port), daemon=True).start()


def _join(taken: socket.socket, context: ssl.SSLContext, port: int) -> None:
    # A client that does not trust us hangs up amid the handshake.
    with (
        suppress(OSError),
        taken,
        context.wrap_socket(taken, server_side=True) as secure,
        socket.create_connection(("127.0.0.1", port)) as plain,
    ):
        threading.Thread(target=_pump, args=(secure, plain), daemon=True).start()
        _pump(plain, secure)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while told := source.recv(65_536):
            target.sendall(told)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
