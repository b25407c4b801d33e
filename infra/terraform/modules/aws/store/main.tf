# The bucket of the store and of Argo's reports, its key, and the bucket of its access logs.

resource "aws_kms_key" "store" {
  description             = "Objects of the bucket ${var.bucket}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Account"
      Effect    = "Allow"
      Principal = { AWS = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root" }
      Action    = "kms:*"
      Resource  = "*" # in a key's policy, the key itself
    }]
  })
  tags = var.tags
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

resource "aws_s3_bucket" "store" {
  # checkov:skip=CKV_AWS_144: a second region doubles the costs of checkpoints; versions protect against deletion
  # checkov:skip=CKV2_AWS_62: nothing listens to events of the bucket
  bucket        = var.bucket
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket" "logs" {
  # checkov:skip=CKV_AWS_144: access logs are kept in the region of what they describe
  # checkov:skip=CKV_AWS_145: S3 delivers access logs to buckets with SSE-S3 only
  # checkov:skip=CKV_AWS_18: this is the bucket of access logs
  # checkov:skip=CKV2_AWS_62: nothing listens to events of the bucket
  bucket        = "${var.bucket}-logs"
  force_destroy = var.force_destroy
  tags          = var.tags
}

locals {
  buckets = { store = aws_s3_bucket.store, logs = aws_s3_bucket.logs }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.store.arn
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "all" {
  for_each = local.buckets
  bucket   = each.value.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "all" {
  for_each                = local.buckets
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "all" {
  for_each = local.buckets
  bucket   = each.value.id
  versioning_configuration {
    status = "Enabled"
  }
}

# Nothing current expires: `mm1 gc` decides what the store no longer needs.
resource "aws_s3_bucket_lifecycle_configuration" "store" {
  depends_on = [aws_s3_bucket_versioning.all]
  bucket     = aws_s3_bucket.store.id
  rule {
    id     = "leftovers"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "logs" {
  depends_on = [aws_s3_bucket_versioning.all]
  bucket     = aws_s3_bucket.logs.id
  rule {
    id     = "expire"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
    expiration {
      days = var.log_days
    }
    noncurrent_version_expiration {
      noncurrent_days = 7
    }
  }
}

resource "aws_s3_bucket_policy" "store" {
  depends_on = [aws_s3_bucket_public_access_block.all]
  bucket     = aws_s3_bucket.store.id
  policy     = jsonencode({ Version = "2012-10-17", Statement = [local.tls_only["store"]] })
}

resource "aws_s3_bucket_policy" "logs" {
  depends_on = [aws_s3_bucket_public_access_block.all]
  bucket     = aws_s3_bucket.logs.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "AccessLogs"
        Effect    = "Allow"
        Principal = { Service = "logging.s3.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "arn:${data.aws_partition.current.partition}:s3:::${aws_s3_bucket.logs.id}/*"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket}" }
          StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
        }
      },
      local.tls_only["logs"],
    ]
  })
}

locals {
  tls_only = { for name, bucket in local.buckets : name => {
    Sid       = "TlsOnly"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:*"
    Resource = [
      "arn:${data.aws_partition.current.partition}:s3:::${bucket.id}",
      "arn:${data.aws_partition.current.partition}:s3:::${bucket.id}/*",
    ]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  } }
}

resource "aws_s3_bucket_logging" "store" {
  depends_on    = [aws_s3_bucket_policy.logs] # S3 refuses a target that its log service cannot write to
  bucket        = aws_s3_bucket.store.id
  target_bucket = aws_s3_bucket.logs.id
  target_prefix = "access/"
}
