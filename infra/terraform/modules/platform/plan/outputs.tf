output "charts" {
  value       = local.charts
  description = "Charts that a cluster needs before this project's, by name. Kueue is not among them: it follows JobSet."
  precondition {
    condition     = length(local.plugin) == length(local.gpus) || var.dra_version != null
    error_message = "dra_version: a pool of the table has devices: dra; set the version of NVIDIA's DRA driver."
  }
}

output "queue" {
  value       = local.queue
  description = "Kueue's objects, by name."
}

output "values" {
  value       = local.values
  description = "Values of the chart mm1."
}
