output "bucket" {
  value       = aws_s3_bucket.store.bucket
  description = "Name of the bucket."
}

output "kms_key_arn" {
  value       = aws_kms_key.store.arn
  description = "Key of its objects."
}
