# The environment with the sizes of pools.yaml: training nodes exist, and cost, all the time.

module "mm1" {
  source       = "../../modules/aws/environment"
  environment  = "prod"
  name         = var.name
  region       = var.region
  zones        = var.zones
  nat_gateways = length(var.zones) # one per zone
  bucket       = var.bucket
  admins       = var.admins
  public_cidrs = var.public_cidrs
  data_buckets = var.data_buckets
  sizes        = var.sizes
  reservations = var.reservations
}

output "karpenter" {
  value       = module.mm1.karpenter
  description = "NodePools and EC2NodeClasses, for kubectl apply."
}

output "karpenter_values" {
  value       = module.mm1.karpenter_values
  description = "Values of Karpenter's chart, in kube-system."
}

output "profile" {
  value       = module.mm1.profile
  description = "Fields of a profile: the store and its use without keys."
}

output "chart_values" {
  value       = module.mm1.chart_values
  description = "Values of the chart mm1."
}

output "roles" {
  value       = module.mm1.roles
  description = "Account of the chart -> ARN of its role."
}

output "cluster" {
  value       = module.mm1.cluster
  description = "Name, address and certificate of the cluster."
}
