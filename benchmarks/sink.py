"""A null server: reads requests as fast as the kernel and OpenSSL give them, and keeps nothing.

A process of its own, on a core of its own: ``python -m benchmarks.sink CORE``. It prints its http
port, its https port and its certificate authority on one line, and serves until its input closes.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
import sys
import tempfile
import threading
from pathlib import Path

import orjson
import trustme

BUFFER = 1 << 20
VECTOR = [0.0234375, -0.015625, 0.0078125, 0.0390625] * 352
PACKED = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()


def _envelope(data: object, **beside: object) -> bytes:
    outcome = {"code": 200, "msg": "success", "success": True, "failed": False}
    return orjson.dumps({**outcome, "data": data, **beside})


def _openai_embedding(embedding: object) -> bytes:
    item = {"object": "embedding", "index": 0, "embedding": embedding}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return orjson.dumps({"object": "list", "data": [item], "model": "m", "usage": usage})


# By the path's beginning; what openai's client wants of a file stands beside what ours wants.
ANSWERS = {
    b"/openai/floats/embeddings": _openai_embedding(VECTOR),
    b"/openai/base64/embeddings": _openai_embedding(PACKED),
    b"/openai": orjson.dumps(
        {
            "id": "file-1",
            "object": "file",
            "bytes": 1,
            "created_at": 1,
            "filename": "f",
            "purpose": "user_data",
            "status": "processed",
        }
    ),
    b"/serve/api/v2/embeddings": _envelope({"embedding": VECTOR}),
    b"/": _envelope({"text": "nothing"}),
}


def answer(head: bytes) -> bytes:
    """Pick the answer by path."""
    path = head.split(b" ", 2)[1]
    body = next(body for start, body in ANSWERS.items() if path.startswith(start))
    fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + body


def content_length(head: bytes) -> int:
    """Read the only framing that a request here may have."""
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


def serve(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Answer the requests of one connection until it ends."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = tls.wrap_socket(connection, server_side=True) if tls else connection
        view = memoryview(bytearray(BUFFER))
        while True:
            received = b""
            while b"\r\n\r\n" not in received:
                if not (count := stream.recv_into(view)):
                    return
                received += view[:count]
            head, _, body = received.partition(b"\r\n\r\n")
            if b"expect: 100-continue" in head.lower():
                stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = content_length(head) - len(body)
            while left > 0:
                if not (count := stream.recv_into(view)):
                    return
                left -= count
            stream.sendall(answer(head))
    except OSError:
        return
    finally:
        connection.close()


def listen(tls: ssl.SSLContext | None) -> int:
    """Serve on a free port, a thread per connection, and return the port."""
    server = socket.create_server(("127.0.0.1", 0), backlog=512)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection, tls), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def main() -> None:
    """Serve both ports; say where they and the certificate authority are."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(str(certificate))
        print(listen(None), listen(context), certificate, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
