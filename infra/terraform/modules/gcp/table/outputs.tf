output "pools" {
  value       = local.used
  description = "Pool -> its nodes, with all defaults; without pools of at most 0 nodes."
}

output "groups" {
  value       = local.groups
  description = "Node pool of GKE -> its pool of the table, with one capacity type as `kind`."
}
