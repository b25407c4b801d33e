output "annotations" {
  value = { for account, item in google_service_account.account : account => {
    annotations = { "iam.gke.io/gcp-service-account" = item.email }
  } }
  description = "Value `accounts` of the chart."
}

output "hmac" {
  value       = { for account, key in google_storage_hmac_key.account : account => { id = key.access_id, secret = key.secret } }
  sensitive   = true
  description = "Account -> its HMAC key."
}
