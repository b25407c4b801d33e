output "profile" {
  value = {
    store       = "s3://${module.store.bucket}${var.prefix == "" ? "" : "/${var.prefix}"}"
    environment = { S3_ENDPOINT = module.store.endpoint, AWS_REGION = "auto" }
  }
  description = "Fields of a profile: the store. The keys are in the profile's `environment_secret`."
}

output "chart_values" {
  value = {
    accounts = module.identity.annotations
    artifactRepository = {
      enabled = true, bucket = module.store.bucket, endpoint = "storage.googleapis.com", region = "auto"
    }
    networkPolicy = {
      identity = { enabled = true, to = [for address in ["169.254.169.252/32", "169.254.169.254/32"] : { ipBlock = { cidr = address } }], ports = [988, 80] }
      dns = { to = [
        { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kube-system" } }, podSelector = { matchLabels = { "k8s-app" = "kube-dns" } } },
        { ipBlock = { cidr = "169.254.20.10/32" } }, # NodeLocal DNSCache
      ] }
    }
  }
  description = "Values of the chart mm1."
}

output "documents" {
  value       = module.pools.documents
  description = "Objects of the cluster that offer the fast networks to pods."
}

output "queued_pools" {
  value       = [for group in module.table.groups : group.pool if group.kind == "flex-start"]
  description = "Pools whose nodes are queued for (flex-start)."
}

output "hmac" {
  value       = module.identity.hmac
  sensitive   = true
  description = "Account -> its HMAC key."
}

output "cluster" {
  value       = { name = module.cluster.name, dns_endpoint = module.cluster.dns_endpoint }
  description = "Name and address of the cluster."
}
