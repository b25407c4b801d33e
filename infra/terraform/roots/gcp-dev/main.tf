# A small environment for trials: no training nodes, at most one GPU for each of evaluation and serving.

module "mm1" {
  source             = "../../modules/gcp/environment"
  environment        = "dev"
  name               = var.name
  project            = var.project
  region             = var.region
  zones              = var.zones
  bucket             = var.bucket
  data_buckets       = var.data_buckets
  admin_ranges       = var.admin_ranges
  sizes              = var.sizes
  reservations       = var.reservations
  hmac               = var.hmac
  placement_policies = var.placement_policies
  release_channel    = "REGULAR"
}

output "profile" {
  value       = module.mm1.profile
  description = "Fields of a profile: the store."
}

output "chart_values" {
  value       = module.mm1.chart_values
  description = "Values of the chart mm1."
}

output "documents" {
  value       = module.mm1.documents
  description = "Objects of the cluster that offer the fast networks to pods."
}

output "queued_pools" {
  value       = module.mm1.queued_pools
  description = "Pools whose nodes are queued for (flex-start)."
}

output "hmac" {
  value       = module.mm1.hmac
  sensitive   = true
  description = "Account -> its HMAC key."
}

output "cluster" {
  value       = module.mm1.cluster
  description = "Name and address of the cluster."
}
