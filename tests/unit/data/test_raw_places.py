"""Raw files in folders and buckets, MMC4, img2dataset's other outputs, remote images: what is read, what is refused."""

import base64
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm1.data.prepare.files.raw import cleaner
from mm1.data.prepare.locations.fetch import Fetcher
from mm1.data.prepare.locations.roots import BucketRoot, LocalRoot
from mm1.data.prepare.sources.formats import discover
from mm1.data.sample import ImagePart, TextPart
from mm1.data.tokenizer import SPECIAL_TOKENS
from mm1.errors import ConfigurationError, DataError
from tests.support.mixtures import encoded_image
from tests.support.raw_files import conversation, pairs, read_all, write_img2dataset, write_text
from tests.support.s3_server import s3_server

CLEAN = cleaner(SPECIAL_TOKENS)
RED, BLUE = encoded_image(1, image_format="JPEG"), encoded_image(2, image_format="JPEG")


def read(source, path, fetch=None):
    return list(read_all(source, path if not isinstance(path, Path) else LocalRoot(path), CLEAN, fetch))


def mmc4_row(**changes):
    """A row exactly as MMC4 publishes them."""
    row = {
        "url": "https://a.invalid/page",
        "text_list": ["One.", "Two is seen.", "Three.", "Four."],
        "image_info": [
            {"image_name": "b.jpg", "raw_url": "https://a.invalid/b.jpg", "matched_text_index": 3, "matched_sim": 0.3},
            {"image_name": "a.jpg", "raw_url": "https://a.invalid/a.jpg", "matched_text_index": 1, "matched_sim": 0.4},
        ],
        "similarity_matrix": [[0.1, 0.2, 0.1, 0.3], [0.1, 0.4, 0.1, 0.2]],
        "could_have_url_duplicate": 0,
    }
    return row | changes


def write_mmc4(folder, *rows):
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.jpg").write_bytes(RED)
    (folder / "b.jpg").write_bytes(BLUE)
    (folder / "docs_shard_0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_mmc4_puts_an_image_before_the_sentence_that_it_belongs_to(tmp_path):
    (sample,) = read("interleaved", write_mmc4(tmp_path / "x", mmc4_row()))
    assert sample.parts == [TextPart("One."), ImagePart(0), TextPart("Two is seen. Three."), ImagePart(1), TextPart("Four.")]
    assert sample.images == [RED, BLUE]
    assert sample.meta["addresses"] == ["https://a.invalid/a.jpg", "https://a.invalid/b.jpg"]
    assert list(discover("interleaved", LocalRoot(tmp_path / "x")).files) == ["mmc4"]


def test_mmc4_takes_images_from_the_row_too(tmp_path):
    infos = [{"image_name": "z.jpg", "image_base64": base64.b64encode(RED).decode(), "matched_text_index": 0}]
    (sample,) = read("interleaved", write_mmc4(tmp_path / "x", mmc4_row(image_info=infos)))
    assert sample.images == [RED] and sample.parts[0] == ImagePart(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_list": "one"}, r"docs_shard_0\.jsonl:1: expected a list in 'text_list'"),
        ({"image_info": None}, "expected a list in 'image_info'"),
        (
            {"image_info": [{"raw_url": "https://a.invalid/c.jpg", "matched_text_index": 0}]},
            r"remote address.*remote=fetch",
        ),
        ({"image_info": [{"image_name": "../../x.jpg", "matched_text_index": 0}]}, "points outside"),
    ],
)
def test_mmc4_rows_of_another_form_are_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read("interleaved", write_mmc4(tmp_path / "x", mmc4_row(**changes)))


def test_obelics_with_images_as_datasets_writes_them(tmp_path):
    columns = {"images": [["https://a/0.jpg", None]], "texts": [[None, "text"]], "metadata": ["[]"], "general_metadata": ["{}"]}
    kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table(columns).append_column("image_bytes", pa.array([[{"bytes": RED, "path": None}, None]], kind))
    pq.write_table(table, tmp_path / "a.parquet")
    (sample,) = read("interleaved", tmp_path)
    assert sample.images == [RED] and sample.meta["addresses"] == ["https://a/0.jpg"]


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg"])
def test_a_member_that_climbs_out_of_a_tar_is_refused(tmp_path, name):
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(DataError, match=r"00000\.tar: the member .* points outside the archive"):
        read("captions", tmp_path)


# -- buckets ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    from mm1.store.s3 import S3Store

    with s3_server(monkeypatch, "raw") as uri:
        yield uri, S3Store(uri)


def test_a_bucket_is_read_like_a_folder(bucket, tmp_path):
    uri, store = bucket
    tar = write_img2dataset(tmp_path / "00000.tar", pairs(3))
    store.write_file("cc/00000.tar", tar)
    store.write("llava/a.json", json.dumps([conversation("<image> x", "y", image="0.png")]).encode())
    store.write("llava/images/0.png", RED)
    store.write_file("one.jsonl", write_text(tmp_path / "one.jsonl", ["a", "b"]))
    captions = BucketRoot(f"{uri}/cc", tmp_path / "w1")
    assert [s.images for s in read("captions", captions)] == [s.images for s in read("captions", tmp_path / "00000.tar")]
    assert [file.version for file in captions.list()] == [file.version for file in BucketRoot(f"{uri}/cc", tmp_path).list()]
    assert read("instructions", BucketRoot(f"{uri}/llava", tmp_path / "w2"))[0].images == [RED]
    assert len(read("text", BucketRoot(f"{uri}/one.jsonl", tmp_path / "w3"))) == 2


def test_what_is_not_in_a_bucket_is_named(bucket, tmp_path):
    uri, _ = bucket
    with pytest.raises(ConfigurationError, match=r"no such object or prefix: .*/nothing"):
        BucketRoot(f"{uri}/nothing", tmp_path)
    with pytest.raises(DataError, match="NoSuchBucket"):
        BucketRoot("s3://nowhere/x", tmp_path)


# -- remote images ------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    class Handler(http.server.SimpleHTTPRequestHandler):
        asked: ClassVar[list] = []

        def do_GET(self):
            self.asked.append(self.path)
            if self.path == "/moved.jpg":
                self.send_response(302)
                self.send_header("Location", "/a.jpg")
                self.end_headers()
            elif self.path == "/loop.jpg":
                self.send_response(302)
                self.send_header("Location", "/loop.jpg")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *words):
            pass

    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(RED)
    (folder / "large.jpg").write_bytes(bytes(5_000))
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    Handler.asked = []
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", Handler
    made.shutdown()
    made.server_close()


def test_remote_images_are_fetched_when_asked_for(server, tmp_path):
    address, _ = server
    fetch = Fetcher(private=True, max_bytes=4_000)
    assert fetch(f"{address}/a.jpg") == fetch(f"{address}/moved.jpg") == RED
    assert [fetch(f"{address}/{name}.jpg") for name in ("gone", "large", "loop")] == [b""] * 3
    assert fetch("file:///etc/passwd") == fetch("ftp://a.invalid/x") == b""
    assert fetch.num_failed == 5
    columns = {"images": [[f"{address}/a.jpg", f"{address}/gone.jpg", None]], "texts": [[None, None, "t"]]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (sample,) = read("interleaved", tmp_path / "a.parquet", fetch)
    assert sample.images == [RED, b""]


def test_captions_of_addresses_get_their_images(server, tmp_path):
    address, _ = server
    columns = {"URL": [f"{address}/{name}.jpg" for name in ("a", "gone", "a", "moved")], "TEXT": list("stuv")}
    pq.write_table(pa.table(columns), tmp_path / "metadata.parquet")
    samples = read("captions", tmp_path, Fetcher(private=True))
    assert [(sample.images, next(sample.texts())) for sample in samples] == [
        ([RED], "s"),
        ([b""], "t"),
        ([RED], "u"),
        ([RED], "v"),
    ]


def test_addresses_of_private_networks_are_not_asked(server):
    address, handler = server
    assert Fetcher()(f"{address}/a.jpg") == b""
    assert Fetcher()("http://169.254.169.254/latest/meta-data") == b""
    assert handler.asked == []


# -- memory -------------------------------------------------------------------------------------------------------------

GROWTH = """
import resource, sys
from pathlib import Path
from typing import ClassVar
sys.path[:0] = {path!r}
from mm1.data.prepare.sources.formats import Reading, discover
from mm1.data.prepare.files.raw import cleaner
from mm1.data.prepare.locations.roots import LocalRoot
count, root = 0, LocalRoot(Path(sys.argv[2]))
((form, files),) = discover(sys.argv[1], root).files.items()
samples = Reading(sys.argv[1], form, root, files, cleaner(()))
for number, sample in enumerate(samples):
    count += 1
    if number == 200:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def big_llava(path):
    rows = (json.dumps(conversation("what " * 1500, f"answer {number} " * 700)) for number in range(6_000))
    with path.open("w") as file:
        file.write("[")
        for number, row in enumerate(rows):
            file.write((",\n" if number else "") + row)
        file.write("]")


def big_jsonl(path):
    with path.open("w") as file:
        for number in range(6_000):
            file.write(json.dumps({"text": f"text {number} " * 1500}) + "\n")


def big_tar(path):
    write_img2dataset(path, [(bytes([number % 256]) * 18_000, "x") for number in range(6_000)])


@pytest.mark.parametrize(
    ("source", "name", "make"),
    [("instructions", "a.json", big_llava), ("text", "a.jsonl", big_jsonl), ("captions", "a.tar", big_tar)],
)
def test_memory_does_not_grow_with_the_file(tmp_path, source, name, make):
    make(tmp_path / name)
    size = (tmp_path / name).stat().st_size / 1e6
    assert size > 80
    program = GROWTH.format(path=sys.path)
    ended = subprocess.run([sys.executable, "-c", program, source, str(tmp_path)], capture_output=True, text=True, check=True)
    count, growth = ended.stdout.split()
    assert int(count) == 6_000
    assert float(growth) < size / 3, f"{growth} MiB more for a file of {size:.0f} MB"
