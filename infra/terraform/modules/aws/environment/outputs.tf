output "karpenter" {
  value       = module.pools.karpenter
  description = "NodePools and EC2NodeClasses, for kubectl apply."
}

output "karpenter_values" {
  value       = { settings = { clusterName = module.cluster.name, interruptionQueue = module.pools.interruption_queue } }
  description = "Values of Karpenter's chart, in kube-system."
}

output "profile" {
  value = {
    store              = "s3://${module.store.bucket}${var.prefix == "" ? "" : "/${var.prefix}"}"
    environment_secret = ""
    environment        = { S3_ENDPOINT = "https://s3.${var.region}.amazonaws.com", AWS_REGION = var.region }
  }
  description = "Fields of a profile: the store and its use without keys."
}

output "chart_values" {
  value = {
    store         = { secret = "" }
    networkPolicy = { identity = { enabled = true } }
    serving       = { environment = { S3_ENDPOINT = "https://s3.${var.region}.amazonaws.com", AWS_REGION = var.region } }
    artifactRepository = {
      enabled = true, bucket = module.store.bucket, endpoint = "s3.${var.region}.amazonaws.com", region = var.region, secret = ""
    }
  }
  description = "Values of the chart mm1."
}

output "roles" {
  value       = module.identity.roles
  description = "Account of the chart -> ARN of its role."
}

output "cluster" {
  value = {
    name                  = module.cluster.name
    endpoint              = module.cluster.endpoint
    certificate_authority = module.cluster.certificate_authority
  }
  description = "Name, address and certificate of the cluster."
}
