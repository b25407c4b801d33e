"""A real S3 server (moto's, over HTTP) for the tests of the bucket store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch, bucket: str) -> Iterator[str]:
    """Start the server, point the store's credentials at it, make a bucket; gives the store's address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        # Servers of one process share their buckets, those of earlier tests too.
        urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
        monkeypatch.setenv("S3_ENDPOINT", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing-key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
        from mm1.store.s3 import S3Store

        S3Store(f"s3://{bucket}").client.make_bucket(bucket)
        yield f"s3://{bucket}/some/prefix"
    finally:
        server.stop()
