output "groups" {
  value       = keys(google_container_node_pool.group)
  description = "Names of the node pools."
}

# Pods name these networks in the annotation networking.gke.io/interfaces.
output "documents" {
  value = merge([for pool, interfaces in var.fast : merge(
    { for each in interfaces : "${each.object}-parameters" => {
      apiVersion = "networking.gke.io/v1"
      kind       = "GKENetworkParamSet"
      metadata   = { name = each.object }
      spec       = { vpc = each.network, vpcSubnet = each.subnetwork, deviceMode = each.kind }
    } },
    { for each in interfaces : "${each.object}-network" => {
      apiVersion = "networking.gke.io/v1"
      kind       = "Network"
      metadata   = { name = each.object }
      spec       = { type = "Device", parametersRef = { group = "networking.gke.io", kind = "GKENetworkParamSet", name = each.object } }
    } },
  )]...)
  description = "Objects that offer the further interfaces to pods, by name; the module platform creates them."
}
