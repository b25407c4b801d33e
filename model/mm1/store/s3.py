"""A store in a bucket (``s3://bucket/prefix``), with the minio client.

The endpoint and the keys are credentials, not configuration: they come from the environment (``S3_ENDPOINT`` or
``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``) or, without
keys, from an identity (:mod:`mm1.store.credentials`). They never appear in a message.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlparse
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error

from mm1.errors import ConfigurationError, DataError, NetworkError
from mm1.errors.recognize import from_os_error
from mm1.store.address import BUCKET_SCHEME, split_bucket
from mm1.store.base import CHUNK_BYTES, BlobRef, Store, blob_key
from mm1.store.blob_cache import BlobCache
from mm1.store.credentials import BucketCredentials, CredentialsError
from mm1.store.deadline import Connections, Retries, TooSlow
from mm1.store.local import SCRATCH, atomic_path, files_left

ResultT = TypeVar("ResultT")
log = logging.getLogger(__name__)


RETRIES = Retries(
    total=10, read=2, backoff_factor=0.5, backoff_max=10, status_forcelist=[500, 502, 503, 504], allowed_methods=None
)
"""A server that restarts or moves to another node refuses or resets connections, or answers 5xx."""
BODY_RETRIES, BODY_BACKOFF_S = 3, 0.5
BLOCKS = "ranges"
"""Folder of the cache for blocks of large objects."""
MISSING = {"NoSuchKey", "NoSuchObject", "NoSuchBucket"}
REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


def _client() -> Minio:
    endpoint = os.environ.get("S3_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"
    address = urlparse(endpoint if "://" in endpoint else f"https://{endpoint}")
    try:
        if not address.hostname:
            raise ValueError("no host")
        return Minio(
            address.netloc,
            secure=address.scheme == "https",
            region=os.environ.get("AWS_REGION", "us-east-1"),
            credentials=BucketCredentials(),
            http_client=Connections(RETRIES),
        )
    except ValueError:
        raise ConfigurationError("expected an address such as https://minio.example.org:9000 in S3_ENDPOINT") from None


class S3Store(Store):
    """Objects in a bucket; blobs read as files are verified and cached in a local folder."""

    def __init__(self, uri: str, cache: Path | None = None) -> None:
        self.bucket, self.prefix = split_bucket(uri)
        self.uri = f"{BUCKET_SCHEME}{self.bucket}/{self.prefix}".rstrip("/")
        self.cache = cache or Path(tempfile.gettempdir()) / f"mm1-blobs-{os.getuid()}"
        self._blobs = BlobCache(self.cache, self.uri, lambda ref, path: self._download(blob_key(ref), path))
        self._client: tuple[int, Minio] | None = None

    @property
    def block_folder(self) -> Path:
        """Folder for cached blocks of large objects, in the cache folder."""
        return self._blobs.subfolder(BLOCKS)

    @property
    def client(self) -> Minio:
        """The client; a forked process gets its own, because connections cannot be shared."""
        if self._client is None or self._client[0] != os.getpid():
            self._client = os.getpid(), _client()
        return self._client[1]

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _call(self, key: str, action: Callable[[], ResultT]) -> ResultT:
        try:
            return action()
        except S3Error as error:
            if error.code in MISSING:
                raise DataError(f"{self.uri}/{key} does not exist ({error.code})") from None
            if error.code in REFUSED:
                raise ConfigurationError(
                    f"store {self.uri} denied access ({error.code}): check the S3 credentials and their permissions"
                ) from None
            raise NetworkError(f"store {self.uri} failed on {key}: {error.code}") from None
        except CredentialsError as error:
            kind = NetworkError if error.is_transient else ConfigurationError
            raise kind(f"store {self.uri}: no credentials: {error}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
                raise from_os_error(error) from None  # of the local file
            raise NetworkError(
                f"store {self.uri} is unreachable ({key}): {type(error).__name__}; check S3_ENDPOINT and the network"
            ) from None
        except (MinioException, ElementTree.ParseError, ValueError) as error:  # ValueError: XML that is no listing
            status = getattr(error, "_code", None)  # of an answer that is not in S3's format
            if status == HTTPStatus.NOT_FOUND:
                raise DataError(f"{self.uri}/{key} does not exist (404)") from None
            answer = f"status {status}" if status else type(error).__name__
            raise NetworkError(
                f"store {self.uri} failed on {key}: its answer is not S3's ({answer}); check S3_ENDPOINT and any proxy"
            ) from None

    def write(self, key: str, data: bytes) -> None:
        """Write a small object."""
        written = self._call(key, lambda: self.client.put_object(self.bucket, self._name(key), io.BytesIO(data), len(data)))
        self._check_etag(key, written.etag)

    def write_file(self, key: str, path: Path) -> None:
        """Upload a file."""
        written = self._call(key, lambda: self.client.fput_object(self.bucket, self._name(key), str(path)))
        self._check_etag(key, written.etag)

    def read(self, key: str) -> bytes:
        """Read an object."""
        return self._get(key)

    def _check_etag(self, key: str, etag: str | None) -> None:
        """Check that an answer has an ETag: a login page of a network also answers 200.

        Raises:
            NetworkError: it has none.
        """
        if not etag:
            raise NetworkError(
                f"store {self.uri} failed on {key}: its answer is not S3's (no ETag); check S3_ENDPOINT and any proxy"
            )

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Read a byte range of an object."""
        return self._get(key, offset=offset, length=size) if size > 0 else b""

    def _get(self, key: str, **byte_range: int) -> bytes:
        def action() -> bytes:
            response = self.client.get_object(self.bucket, self._name(key), **byte_range)
            try:
                if byte_range and response.status != HTTPStatus.PARTIAL_CONTENT:  # the whole object, however large
                    raise InvalidResponseError(response.status, response.headers.get("Content-Type"), "no range")
                self._check_etag(key, response.headers.get("ETag"))
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        return self._repeat(key, action)

    def _repeat(self, key: str, action: Callable[[], ResultT]) -> ResultT:
        """Call an action that reads a body, which may break after the pool's own retries."""
        for attempt in range(BODY_RETRIES):
            try:
                return self._call(key, action)
            except NetworkError as error:
                cause = error.__context__
                is_last = attempt == BODY_RETRIES - 1 or isinstance(cause, urllib3.exceptions.MaxRetryError)
                if is_last or isinstance(cause and cause.__cause__, TooSlow):
                    raise
                time.sleep(BODY_BACKOFF_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def size(self, key: str) -> int | None:
        """Return the size of an object; None if it does not exist."""
        try:
            state = self._call(key, lambda: self.client.stat_object(self.bucket, self._name(key)))
        except DataError:
            return None
        self._check_etag(key, state.etag)
        return int(state.size or 0)

    def modified(self, key: str) -> float:
        """Return the time of an object's last write."""
        stat = self._call(key, lambda: self.client.stat_object(self.bucket, self._name(key)))
        return stat.last_modified.timestamp() if stat.last_modified else time.time()

    def now(self) -> float:
        """Return the time of the server."""
        try:
            state = self._call("clock", lambda: self.client.stat_object(self.bucket, self._name("clock")))
            headers: Mapping[str, str] = state.metadata or {}
        except DataError as error:
            headers = getattr(getattr(error.__context__, "response", None), "headers", {})
        try:
            return parsedate_to_datetime(headers["Date"]).timestamp()
        except (KeyError, ValueError):
            return time.time()

    def scratch(self) -> Path:
        """Return the scratch folder in the cache folder."""
        return self._blobs.subfolder(SCRATCH)

    def leftovers(self, min_age_s: float) -> dict[str, Callable[[], object]]:
        """Find unfinished uploads of any machine, and files of killed processes in this machine's cache folder."""
        left = files_left(self.cache, ("blobs", BLOCKS, "verified"), SCRATCH, time.time() - min_age_s)
        return left | self._unfinished_uploads(self.now() - min_age_s)

    def _unfinished_uploads(self, before: float) -> dict[str, Callable[[], object]]:
        client, start = self.client, self._name("blobs/")
        try:
            uploads = self._call(
                start,
                lambda: client._list_multipart_uploads(self.bucket, prefix=start).uploads,
            )
        except (ConfigurationError, DataError, NetworkError) as error:  # a right of its own, and not every server has it
            log.warning("unfinished uploads are not looked for: %s", error)
            return {}
        left: dict[str, Callable[[], object]] = {}
        for upload in uploads:
            if upload.initiated_time and upload.initiated_time.timestamp() < before:
                name, number = str(upload.object_name), str(upload.upload_id)
                abort = partial(client._abort_multipart_upload, self.bucket, name, number)
                left[f"blobs/{name[len(start) :]} (upload {number})"] = partial(self._call, name, abort)
        return left

    def list(self, prefix: str) -> Iterator[str]:
        """List the objects with a prefix, sorted."""
        cut = len(self.prefix) + 1 if self.prefix else 0
        names = self._call(
            prefix,
            lambda: [
                str(item.object_name)
                for item in self.client.list_objects(self.bucket, prefix=self._name(prefix), recursive=True)
            ],
        )
        yield from sorted(name[cut:] for name in names)

    def objects(self, prefix: str = "") -> Sequence[tuple[str, int, str]]:
        """Name, size and ETag of all objects below the store's address that start with ``prefix``."""
        start = f"{self._name('')}{prefix}" if self.prefix else prefix
        objects = self._call(start, lambda: [*self.client.list_objects(self.bucket, prefix=start, recursive=True)])
        cut = len(self.prefix) + 1 if self.prefix else 0
        files = (item for item in objects if item.size or not item.is_dir)  # a key with a slash at its end may have content
        return sorted((str(item.object_name)[cut:], int(item.size or 0), str(item.etag)) for item in files)

    def download(self, key: str, path: Path) -> None:
        """Download an object to a local file atomically."""
        with atomic_path(path) as temporary:
            self._download(key, temporary)

    def _download(self, key: str, path: Path) -> None:
        # minio's fget_object would leave its own temporary file next to the path if the connection breaks
        def action() -> None:
            response = self.client.get_object(self.bucket, self._name(key))
            try:
                self._check_etag(key, response.headers.get("ETag"))
                with path.open("wb") as file:
                    for data in response.stream(CHUNK_BYTES):
                        file.write(data)
            finally:
                response.close()
                response.release_conn()

        self._repeat(key, action)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._call(key, lambda: self.client.remove_object(self.bucket, self._name(key)))

    def local_path(self, ref: BlobRef) -> Path:
        """Return the verified copy of a blob in the cache folder."""
        return self._blobs.path(ref)
