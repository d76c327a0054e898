#!/usr/bin/python3
"""TLS between a server and clients over loopback; hashes and keys beside it."""

import hashlib
import hmac
import http.client
import http.server
import os
import secrets
import socket
import ssl
import subprocess
import threading
import zlib

subprocess.run(
    [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "30",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ],
    check=True,
    stderr=subprocess.DEVNULL,
)
server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_side.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]


refused = []


def serve(count):
    for _ in range(count):
        plain, _ = listener.accept()
        try:
            with server_side.wrap_socket(plain, server_side=True) as secure:
                data = b""
                while not data.endswith(b"."):
                    part = secure.recv(65536)
                    if not part:
                        raise ConnectionResetError
                    data += part
                secure.sendall(hashlib.sha256(data).hexdigest().encode())
        except (ssl.SSLError, ConnectionError):
            refused.append("refused")


thread = threading.Thread(target=serve, args=(3,))
thread.start()
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile="cert.pem")
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        message = bytes(range(46)) * 20000 + b"."
        secure.sendall(message)
        print(
            secure.version(),
            secure.cipher()[0],
            secure.recv(100).decode() == hashlib.sha256(message).hexdigest(),
            secure.getpeercert()["subject"],
        )
try:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
except ssl.SSLCertVerificationError as error:
    print("client:", error.verify_message)
thread.join()
print("server:", refused)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *words):
        pass


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    server.socket = server_side.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.server_port, context=ssl.create_default_context(cafile="cert.pem")
    )
    for n in range(5):
        connection.request("POST", "/", body=b"request %d" % n)
        answer = connection.getresponse()
        print(answer.status, answer.read())
    connection.close()
    server.shutdown()
    thread.join()
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
memory = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
try:
    memory.do_handshake()
except ssl.SSLWantReadError:
    print("hello of", len(outgoing.read()) > 100)
for name in (
    "md5",
    "sha1",
    "sha256",
    "sha512",
    "sha3_256",
    "blake2b",
    "blake2s",
    "shake_128",
    "sm3",
    "ripemd160",
):
    try:
        digest = hashlib.new(name, b"abc" * 1000)
        print(name, digest.hexdigest(16) if name.startswith("shake") else digest.hexdigest()[:32])
    except ValueError:
        print(name, "unsupported")
print(
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1000).hex(),
    hashlib.scrypt(b"p", salt=b"s", n=1024, r=8, p=1).hex()[:32],
)
print(
    hmac.new(b"key", b"message", "sha512").hexdigest()[:32],
    len(secrets.token_bytes(32)),
    len(os.urandom(10)),
    zlib.crc32(b"abc"),
    zlib.adler32(b"abc"),
)
print(ssl.OPENSSL_VERSION[:11])
os.unlink("key.pem")
os.unlink("cert.pem")
