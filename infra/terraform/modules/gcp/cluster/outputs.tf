output "name" {
  value       = google_container_cluster.this.name
  description = "Name of the cluster."
}

output "id" {
  value       = google_container_cluster.this.id
  description = "Id of the cluster, for node pools."
}

output "dns_endpoint" {
  value       = google_container_cluster.this.control_plane_endpoints_config[0].dns_endpoint_config[0].endpoint
  description = "Name of the API, reachable by whoever IAM lets connect."
}

output "node_account" {
  value       = google_service_account.nodes.email
  description = "Service account of the nodes."
}

output "workload_pool" {
  value       = "${var.project}.svc.id.goog"
  description = "Pool of workload identities."
}
