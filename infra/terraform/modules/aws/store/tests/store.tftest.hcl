mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:111122223333:key/0123" }
  }
}

variables {
  bucket = "mm1-test"
}

run "store" {
  assert {
    condition = alltrue([for block in aws_s3_bucket_public_access_block.all :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ]) && toset(keys(aws_s3_bucket_public_access_block.all)) == toset(["store", "logs"])
    error_message = "both buckets block all public access"
  }
  assert {
    condition     = alltrue([for item in aws_s3_bucket_versioning.all : item.versioning_configuration[0].status == "Enabled"])
    error_message = "both buckets are versioned"
  }
  assert {
    condition = one(one(aws_s3_bucket_server_side_encryption_configuration.store.rule).apply_server_side_encryption_by_default) == {
      sse_algorithm = "aws:kms", kms_master_key_id = aws_kms_key.store.arn
    }
    error_message = "objects are encrypted with the store's key"
  }
  assert {
    condition = alltrue([for policy in [aws_s3_bucket_policy.store.policy, aws_s3_bucket_policy.logs.policy] :
      anytrue([for item in jsondecode(policy).Statement :
        item.Effect == "Deny" && item.Principal == "*" && try(item.Condition.Bool["aws:SecureTransport"], "") == "false"
    ])])
    error_message = "requests without TLS are denied"
  }
  assert {
    condition = alltrue([for policy in [aws_s3_bucket_policy.store.policy, aws_s3_bucket_policy.logs.policy] :
      alltrue([for item in jsondecode(policy).Statement : item.Effect == "Deny" || item.Principal != "*"])
    ])
    error_message = "nobody is allowed without a name"
  }
  assert {
    condition = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.store.rule :
      length(rule.expiration) == 0 && rule.abort_incomplete_multipart_upload[0].days_after_initiation == 7
    ])
    error_message = "incomplete uploads are removed, and no current object expires"
  }
  assert {
    condition     = aws_s3_bucket_logging.store.target_bucket == aws_s3_bucket.logs.id && !aws_s3_bucket.store.force_destroy
    error_message = "access is logged, and a bucket with objects is not deleted"
  }
}
