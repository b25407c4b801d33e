output "network" {
  value       = google_compute_network.this.id
  description = "The network of nodes and pods."
}

output "subnetwork" {
  value       = google_compute_subnetwork.nodes.id
  description = "Its subnet, with the ranges `pods` and `services`."
}

output "fast" {
  value       = local.fast
  description = "Pool -> its further interfaces in order: network, subnetwork, name of the object in the cluster, kind of device."
}
