"""The policy of a server's credentials, enforced by an S3 server: it reads one model, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from mm1.errors import ConfigurationError
from mm1.lineage.read_policy import read_policy
from mm1.manifests import Deployment, ExportedModel, load_digest, manifest_key, publish, split_uri
from mm1.modeling.export import export
from mm1.serve.load import load
from mm1.store.base import BlobRef, Store, blob_key
from mm1.store.open import open_store
from mm1.store.s3 import S3Store
from mm1_workflows import cli
from tests.support.s3_server import s3_server
from tests.support.tiny_mm1 import picture, tiny_mm1

OTHER = "0" * 64


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch, s3_server(monkeypatch, "least-privilege") as uri:
        yield uri


@pytest.fixture(scope="module")
def deployed(bucket, tmp_path_factory) -> str:
    """The address of a deployed model; the bucket also has another result."""
    store = open_store(bucket)
    files = store.put_folder(export(*tiny_mm1(), tmp_path_factory.mktemp("model")))
    exported = split_uri(publish(store, ExportedModel(checkpoint=OTHER, files=files, contract={})))[1]
    images = {"ring.png": store.put_bytes(picture(1))}
    store.put_bytes(b"of another model")
    publish(store, Deployment(deployed=False, reason="another result"))
    return publish(store, Deployment(deployed=True, reason="", exported=exported, images=images, sample={"question": "what ?"}))


@pytest.fixture
def as_server(bucket, deployed, tmp_path, monkeypatch) -> Iterator[Store]:
    """The store with the credentials of a user that has the policy which the command writes, enforced."""
    import boto3

    assert cli.main(["lineage", deployed, "--policy", str(tmp_path / "policy.json")]) == 0
    [endpoint] = {S3Store(bucket).client._base_url._url.geturl()}
    iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1")
    iam.create_user(UserName="serve")
    iam.put_user_policy(UserName="serve", PolicyName="one-model", PolicyDocument=(tmp_path / "policy.json").read_text())
    key = iam.create_access_key(UserName="serve")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])

    def enforce_after(num_requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        urlopen(Request(f"{endpoint}/moto-api/reset-auth", num_requests.encode(), headers, method="POST")).close()

    enforce_after("0")
    yield S3Store(bucket, tmp_path / "cache")
    enforce_after("inf")


def test_the_server_loads_its_model_and_is_refused_everything_else(as_server, deployed, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # no copies of the store's own blobs
    loaded = load(deployed)
    assert loaded.generator.model.num_parameters() > 0 and len(loaded.examples) == 1
    other = BlobRef(sha256="7c" * 32, num_bytes=1)
    attempts = {
        "another manifest": lambda: load_digest(as_server, OTHER),
        "another blob": lambda: as_server.read(blob_key(other)),
        "a record": lambda: as_server.read("runs/a/b.json"),
        "a list": lambda: list(as_server.list("manifests/")),
        "another object": lambda: as_server.write("serving/mm1/current.json", b"{}"),
        "its own manifest": lambda: as_server.write(manifest_key(split_uri(deployed)[1]), b"{}"),
        "a deletion": lambda: as_server.delete(manifest_key(split_uri(deployed)[1])),
    }
    for name, attempt in attempts.items():
        with pytest.raises(ConfigurationError, match="denied access"):
            attempt()
            pytest.fail(f"{name} was not refused")


def test_the_policy_names_objects_only(bucket, deployed):
    [statement] = json.loads(read_policy(open_store(bucket), split_uri(deployed)[1]))["Statement"]
    assert statement["Action"] == ["s3:GetObject"] and statement["Effect"] == "Allow"
    assert not [resource for resource in statement["Resource"] if "*" in resource]
    assert all(resource.startswith("arn:aws:s3:::least-privilege/some/prefix/") for resource in statement["Resource"])
    assert len(set(statement["Resource"])) == len(statement["Resource"]) > 8


def test_a_model_without_a_policy(bucket, deployed, tmp_path: Path):
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(ConfigurationError, match=r"--policy: expected a model in a bucket"):
        read_policy(store, OTHER)
    many = {f"{number}.safetensors": BlobRef(sha256=f"{number:064x}", num_bytes=1) for number in range(60)}
    exported = publish(open_store(bucket), ExportedModel(checkpoint=OTHER, files=many, contract={}))
    with pytest.raises(ConfigurationError, match=r"61 objects, .* AWS allows 6144: copy the model"):
        read_policy(open_store(bucket), split_uri(exported)[1])
