"""Real servers to deliver to: an SMTP server (aiosmtpd), an S3 server (moto's program), Samba (Debian's smbd)."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "clerk", "s3cret words"
SMB_USER = "nobody"  # Samba needs a user that the system knows


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Mailbox:
    """An SMTP server that keeps what it accepted, and takes a login after STARTTLS or on a TLS port only."""

    def __init__(self, folder: Path, *, tls: bool = False, limit: int = 40_000_000) -> None:
        certificate, key = make_certificate(folder)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(certificate, key)
        self.trust = ssl.create_default_context(cafile=str(certificate))
        self.letters: list[EmailMessage] = []
        self.refuse: dict[str, str] = {}
        self.port = free_port()
        secure: dict[str, Any] = {"ssl_context": server} if tls else {"tls_context": server, "require_starttls": True}
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            data_size_limit=limit,
            authenticator=self._login,
            auth_required=True,
            auth_require_tls=not tls,
            **secure,
        )

    def __enter__(self) -> Mailbox:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def _login(self, server: object, session: object, envelope: object, mechanism: str, data: Any) -> AuthResult:
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False)

    async def handle_RCPT(
        self, server: object, session: object, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        letter = message_from_bytes(envelope.content, policy=default_policy)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        return "250 OK"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@contextmanager
def s3_server() -> Iterator[int]:
    """moto's S3 server in a process of its own; its port. Buckets and objects are in its memory."""
    port = free_port()
    program = "import sys; from moto.server import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def s3_put_bucket(port: int, name: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{name}", method="PUT")
    urllib.request.urlopen(request).close()


def smb_reason() -> str | None:
    """Why there is no Samba here; None where there is one."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a Samba server needs root"
    if shutil.which("smbd", path="/usr/sbin:/usr/bin") is None:
        return "Debian's samba is not installed"
    return None


@contextmanager
def smb_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """Samba with one share, "backups": its port, and the folder behind the share."""
    share, port = folder / "share", free_port()
    share.mkdir()
    share.chmod(0o777)
    places = {}
    for name in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
        (folder / name).mkdir()
        places[name] = folder / name
    config = folder / "smb.conf"
    config.write_text(
        f"""
[global]
  server role = standalone
  smb ports = {port}
  interfaces = lo
  bind interfaces only = yes
  private dir = {places["private"]}
  lock directory = {places["lock"]}
  state directory = {places["state"]}
  cache directory = {places["cache"]}
  pid directory = {places["pid"]}
  ncalrpc dir = {places["ncalrpc"]}
  passdb backend = tdbsam:{places["private"]}/passdb.tdb
  disable spoolss = yes
  load printers = no
  disable netbios = yes
  server min protocol = SMB3
  log file = {folder}/log
[backups]
  path = {share}
  read only = no
  force user = root
[readonly]
  path = {share}
  read only = yes
"""
    )
    subprocess.run(
        ["smbpasswd", "-c", str(config), "-s", "-a", SMB_USER],
        input=f"{PASSWORD}\n{PASSWORD}\n",
        text=True,
        check=True,
        capture_output=True,
    )
    process = subprocess.Popen(
        ["/usr/sbin/smbd", "--foreground", "--no-process-group", f"--configfile={config}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(port, process)
        yield port, share
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the server does not answer")
