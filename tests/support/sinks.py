"""Sinks for what a server sends: posts, also to hosts that are stood for, and mails."""

import contextlib
import email
import email.policy
import socketserver
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOSTS = ("hooks.slack.com", "prod-01.westeurope.logic.azure.com")


class Posted(BaseHTTPRequestHandler):
    """Takes what is posted, straight or through a tunnel to some host that it stands for."""

    host = "127.0.0.1"

    def do_CONNECT(self):
        host = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb", -1), self.connection.makefile("wb", 0)
        self.host, self.close_connection = host, False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.messages.append((self.host, self.path, body))
        self.send_response(self.server.answer)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def handle(self):
        with contextlib.suppress(OSError):  # whoever posts may hang up
            super().handle()

    def finish(self):
        super().finish()
        self.connection.close()

    def log_message(self, *words):
        pass


class Mailed(socketserver.StreamRequestHandler):
    """As much SMTP as a message needs."""

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            word = line[:4].upper().strip()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                message = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                self.server.messages.append(message)
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


@contextlib.contextmanager
def serving(kind, handler, **more):
    with kind(("127.0.0.1", 0), handler) as server:
        server.messages, server.answer, server.daemon_threads = [], 200, True
        for name, value in more.items():
            setattr(server, name, value)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def certificate(folder):
    """A key and a certificate of its own authority, for the hosts that are stood for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sinks of a test")])
    hosts = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, encoding = folder / "sinks.pem", serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(made.public_bytes(encoding) + secret)
    return pem


@contextlib.contextmanager
def posts(folder):
    """A sink for HTTP; as a proxy for HTTPS, it stands for every host. `pem` is its authority's certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = certificate(folder)
    tls.load_cert_chain(pem)
    with serving(ThreadingHTTPServer, Posted, tls=tls, pem=pem) as server:
        yield server


def mails():
    """A sink for SMTP."""
    return serving(socketserver.ThreadingTCPServer, Mailed)


def at(server, path=""):
    return f"127.0.0.1:{server.server_address[1]}{path}"
