# What runs in a cluster that gcp-* or aws-* has made. Its variables are mostly outputs of those roots, see infra/README.md.

module "platform" {
  source           = "../../modules/platform"
  cloud            = var.cloud
  environment      = var.environment
  profile          = var.profile
  chart_values     = var.chart_values
  site_values      = var.site_values
  documents        = var.documents
  queued_pools     = var.queued_pools
  karpenter_values = var.karpenter_values
}

output "versions" {
  value       = module.platform.versions
  description = "Chart -> its version."
}
