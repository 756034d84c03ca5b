"""A null server: reads requests as fast as the kernel and OpenSSL give them, keeps nothing.

Run as a process of its own, pinned to a core of its own: ``python -m benchmarks.sink``. It prints
its two ports (http, https) on one line and serves until its standard input closes.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import tempfile
import threading
from pathlib import Path

import orjson
import trustme

BUFFER = 1 << 20
VECTOR = [0.0234375, -0.015625, 0.0078125, 0.0390625] * 352
PLAIN = orjson.dumps(
    {
        "code": 200,
        "msg": "success",
        "success": True,
        "failed": False,
        # what openai's client wants of a file, and ours of a caption or a video
        "data": {"text": "nothing", "video_no": "VI1"},
        "id": "file-1",
        "object": "file",
        "bytes": 1,
        "created_at": 1,
        "filename": "f",
        "purpose": "user_data",
        "status": "processed",
    }
)
EMBEDDING = orjson.dumps(
    {
        "code": 200,
        "msg": "success",
        "success": True,
        "failed": False,
        "data": {"embedding": VECTOR},
    }
)
OPENAI_EMBEDDING = orjson.dumps(
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}],
        "model": "m",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
)


def answer(request_line: bytes) -> bytes:
    """Pick the answer by path."""
    if b"/openai/" in request_line and b"embeddings" in request_line:
        body = OPENAI_EMBEDDING
    elif b"embeddings" in request_line:
        body = EMBEDDING
    else:
        body = PLAIN
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def serve(connection: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Answer requests on one connection until it ends."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = tls.wrap_socket(connection, server_side=True) if tls else connection
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        pending = b""
        while True:
            while b"\r\n\r\n" not in pending:
                count = stream.recv_into(view)
                if not count:
                    return
                pending += view[:count]
            head, _, pending = pending.partition(b"\r\n\r\n")
            lower = head.lower()
            if b"expect: 100-continue" in lower:
                stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = 0
            if b"content-length:" in lower:
                left = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            left -= len(pending)
            pending = b""
            while left > 0:
                count = stream.recv_into(view)
                if not count:
                    return
                left -= count
            stream.sendall(answer(head.split(b"\r\n", 1)[0]))
    except OSError:
        return
    finally:
        connection.close()


def listen(tls: ssl.SSLContext | None) -> int:
    """Serve on a free port in threads, and return the port."""
    server = socket.create_server(("127.0.0.1", 0), backlog=512)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection, tls), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def main() -> None:
    """Serve both ports; tell them, and where the certificate authority is."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1]})
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
