"""The Terraform modules: formatting, their own tests with mocked clouds, and the store's life against a server of AWS's API.

Everything but the formatting needs `terraform init`, which takes seconds per folder: `make test-infra`. The provider comes from
where Terraform's own settings say, for example TF_CLI_CONFIG_FILE with a filesystem mirror.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "infra/terraform").glob("*/**/versions.tf") if ".terraform" not in path.parts)
AWS_MODULES = ROOT / "infra/terraform/modules/aws"
TERRAFORM = shutil.which("terraform")
NO_PROVIDER = re.compile(r"Failed to (query available provider packages|install provider)")

pytestmark = pytest.mark.skipif(not TERRAFORM, reason="terraform is not installed")
slow = pytest.mark.skipif(not os.environ.get("MM1_TEST_INFRA"), reason="`make test-infra` initialises every module")

Terraform = Callable[..., str]


def run(folder: Path, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["terraform", f"-chdir={folder}", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )


@pytest.fixture
def terraform(tmp_path: Path) -> Terraform:
    """Run terraform in a folder of its own state and providers; skip if no provider is found."""
    environment = {"TF_DATA_DIR": str(tmp_path / "data"), "TF_IN_AUTOMATION": "1", "AWS_EC2_METADATA_DISABLED": "true"}

    def call(folder: Path, *arguments: str) -> str:
        result = run(folder, *arguments, environment=environment)
        if arguments[0] == "init" and NO_PROVIDER.search(result.stdout):
            pytest.skip("terraform init finds no provider: set TF_CLI_CONFIG_FILE, or run where its registry can be reached")
        assert result.returncode == 0, result.stdout
        return result.stdout

    return call


def test_terraform_files_are_formatted() -> None:
    result = run(ROOT / "infra/terraform", "fmt", "-check", "-diff", "-recursive", environment={})
    assert result.returncode == 0, result.stdout + "\nrun `make format`"


@slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: "-".join(path.parts[-2:]))
def test_a_folder_is_valid_and_passes_its_tests(folder: Path, terraform: Terraform) -> None:
    terraform(folder, "init", "-backend=false", "-input=false", "-no-color")
    terraform(folder, "validate", "-no-color")
    if (folder / "tests").is_dir():
        assert re.search(r"Success! [1-9]\d* passed, 0 failed", terraform(folder, "test", "-no-color"))


@pytest.fixture
def aws() -> Iterator[str]:
    """A server of AWS's API without any resource; gives its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


MAIN = """
provider "aws" {{
  region                      = "us-east-1"
  access_key                  = "testing"
  secret_key                  = "testing"
  s3_use_path_style           = true
  skip_metadata_api_check     = true
  endpoints {{
    eks = "{server}"
    iam = "{server}"
    kms = "{server}"
    s3  = "{server}"
    sts = "{server}"
  }}
}}

module "store" {{
  source = "{modules}/store"
  bucket = "mm1-trial"
}}

module "identity" {{
  source       = "{modules}/identity"
  cluster_name = "trial"
  cluster_arn  = "arn:aws:eks:us-east-1:123456789012:cluster/trial"
  bucket       = module.store.bucket
  kms_key_arn  = module.store.kms_key_arn
  associate    = false
}}
"""


@slow
def test_store_and_identities_are_created_and_nothing_is_left(aws: str, terraform: Terraform, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "main.tf").write_text(MAIN.format(server=aws, modules=os.path.relpath(AWS_MODULES, folder)))
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")
    s3, iam, kms = (session.client(name, endpoint_url=aws) for name in ("s3", "iam", "kms"))
    policies = {item["PolicyName"] for item in iam.list_policies(Scope="Local")["Policies"]}

    terraform(folder, "init", "-input=false", "-no-color")
    terraform(folder, "apply", "-auto-approve", "-input=false", "-no-color")
    assert {item["Name"] for item in s3.list_buckets()["Buckets"]} == {"mm1-trial", "mm1-trial-logs"}
    for bucket in ("mm1-trial", "mm1-trial-logs"):
        assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    (rule,) = s3.get_bucket_encryption(Bucket="mm1-trial")["ServerSideEncryptionConfiguration"]["Rules"]
    key = rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"]
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    assert s3.get_bucket_logging(Bucket="mm1-trial")["LoggingEnabled"]["TargetBucket"] == "mm1-trial-logs"
    assert {item["RoleName"] for item in iam.list_roles()["Roles"]} == {
        f"trial-mm1-{account}" for account in ("step", "supervisor", "rank", "serve", "rollout")
    }
    assert actions(iam, "trial-mm1-serve") == {"s3:GetObject", "kms:Decrypt"}
    assert "No changes" in terraform(folder, "plan", "-input=false", "-no-color"), "a second apply would change nothing"

    s3.delete_bucket_policy(Bucket="mm1-trial")  # whose condition on TLS moto does not evaluate
    s3.put_object(Bucket="mm1-trial", Key="mm1/manifests/0.json", Body=b"{}")
    assert "BucketNotEmpty" in destroy(folder, tmp_path), "a bucket with objects is not deleted"
    for bucket in ("mm1-trial", "mm1-trial-logs"):
        for item in s3.list_object_versions(Bucket=bucket).get("Versions", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    terraform(folder, "destroy", "-auto-approve", "-input=false", "-no-color")
    assert s3.list_buckets()["Buckets"] == [] and iam.list_roles()["Roles"] == []
    assert {item["PolicyName"] for item in iam.list_policies(Scope="Local")["Policies"]} == policies
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion"


def destroy(folder: Path, tmp_path: Path) -> str:
    """Output of a destroy that fails."""
    environment = {"TF_DATA_DIR": str(tmp_path / "data"), "AWS_EC2_METADATA_DISABLED": "true"}
    result = run(folder, "destroy", "-auto-approve", "-input=false", "-no-color", environment=environment)
    assert result.returncode != 0, result.stdout
    return result.stdout


def actions(iam: Any, role: str) -> set[str]:
    document = iam.get_role_policy(RoleName=role, PolicyName="store")["PolicyDocument"]
    statements = (document if isinstance(document, dict) else json.loads(document))["Statement"]
    return {action for statement in statements for action in statement["Action"]}
