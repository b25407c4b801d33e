"""The least privilege that serving one model needs: a policy for S3, for the credentials of the server alone.

Blobs are content-addressed and shared by all models of a store, so the policy names objects, not folders. It has no
``s3:ListBucket``: a server never lists, and an object that is not in the policy is refused, whether it exists or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from mm1.errors import ConfigurationError
from mm1.lineage.models import model_of
from mm1.manifests import Deployment, load_digest, manifest_key
from mm1.store.address import BUCKET_SCHEME, split_bucket
from mm1.store.base import Store, blob_key

ACTION = "s3:GetObject"
"""The only action of a server; S3 also asks for it when the size of an object is read."""
MAX_CHARACTERS = 6144
"""Limit of AWS for a managed policy."""


def read_policy(store: Store, digest: str) -> str:
    """Return the policy (JSON) with which ``mm1 serve`` can read one model, and nothing else in the bucket.

    Args:
        store: the store, in a bucket.
        digest: of a Deployment, ExportedModel or Checkpoint.

    Raises:
        ConfigurationError: the store is not in a bucket, the manifest has no model, or AWS would refuse a policy of this size.
    """
    if not store.uri.startswith(BUCKET_SCHEME):
        raise ConfigurationError(f"--policy: expected a model in a bucket (s3://bucket/prefix), got one in {store.uri}")
    bucket, prefix = split_bucket(store.uri)
    root = f"arn:aws:s3:::{bucket}/{prefix}/" if prefix else f"arn:aws:s3:::{bucket}/"
    resources = [root + key for key in objects(store, digest)]
    statement = {"Effect": "Allow", "Action": [ACTION], "Resource": resources}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    size = len(json.dumps(policy, separators=(",", ":")))
    if size > MAX_CHARACTERS:
        raise ConfigurationError(
            f"--policy: the model has {len(resources)} objects, whose policy has {size} characters; "
            f"AWS allows {MAX_CHARACTERS}: copy the model to a bucket of its own, and allow {ACTION} on all of it"
        )
    return json.dumps(policy, indent=1) + "\n"


def objects(store: Store, digest: str) -> list[str]:
    """Return the names of the objects that the server of a model reads, each once, below the store's address."""
    return list(dict.fromkeys(_objects(store, digest)))


def _objects(store: Store, digest: str) -> Iterator[str]:
    manifest = load_digest(store, digest)
    model = model_of(store, manifest, digest[:12])
    yield manifest_key(digest)
    if isinstance(manifest, Deployment):
        yield manifest_key(str(manifest.exported))
        yield from map(blob_key, manifest.images.values())
    yield from map(blob_key, model.files.values())
    if model.signature:
        yield blob_key(model.signature)
