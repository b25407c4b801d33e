output "bucket" {
  value       = google_storage_bucket.store.name
  description = "Name of the bucket."
}

output "endpoint" {
  value       = "https://storage.googleapis.com"
  description = "S3_ENDPOINT of the store."
}
