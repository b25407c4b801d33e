# Node pools of the table. A managed group has its nodes all the time, or all at once when the queue gives them (flex-start).

locals {
  # The queue of flex-start places machines itself. Those of a reservation are where it has them: they take its own policy, or none.
  compact = {
    for name, group in var.groups : name => lookup(var.placement_policies, group.pool, null)
    if group.placement == "compact" && (contains(["on-demand", "spot"], group.kind) || contains(keys(var.placement_policies), group.pool))
  }
}

resource "google_container_node_pool" "group" {
  for_each       = var.groups
  name           = each.key
  cluster        = var.cluster
  location       = var.region
  node_locations = ["${var.region}-${each.value.zone}"]
  node_count     = each.value.provisioner == "managed-group" && each.value.kind != "flex-start" ? each.value.size.max : null

  dynamic "autoscaling" {
    for_each = each.value.provisioner == "autoscaler" || each.value.kind == "flex-start" ? [each.value] : []
    content {
      total_min_node_count = autoscaling.value.kind == "flex-start" ? 0 : autoscaling.value.size.min
      total_max_node_count = autoscaling.value.size.max
      location_policy      = "ANY"
    }
  }
  dynamic "queued_provisioning" {
    for_each = each.value.kind == "flex-start" ? [true] : []
    content {
      enabled = true
    }
  }
  dynamic "placement_policy" {
    for_each = contains(keys(local.compact), each.key) ? [local.compact[each.key]] : []
    content {
      type        = "COMPACT"
      policy_name = placement_policy.value
    }
  }
  dynamic "network_config" {
    for_each = length(lookup(var.fast, each.value.pool, [])) > 0 ? [var.fast[each.value.pool]] : []
    content {
      enable_private_nodes = true
      dynamic "additional_node_network_configs" {
        for_each = network_config.value
        content {
          network    = additional_node_network_configs.value.network
          subnetwork = additional_node_network_configs.value.subnetwork
        }
      }
    }
  }
  management {
    auto_repair  = each.value.kind != "flex-start" # not with queued provisioning
    auto_upgrade = true
  }
  upgrade_settings {
    strategy        = "SURGE"
    max_surge       = each.value.facts.gpus > 0 ? 0 : 1 # there are no spare GPUs
    max_unavailable = each.value.facts.gpus > 0 ? 1 : 0
  }

  node_config {
    machine_type    = each.value.machine
    image_type      = "COS_CONTAINERD"
    disk_size_gb    = each.value.disk_gib
    disk_type       = "pd-balanced"
    spot            = each.value.kind == "spot"
    flex_start      = each.value.kind == "flex-start"
    service_account = var.node_account
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"] # IAM limits the account
    labels          = each.value.labels
    resource_labels = var.labels
    metadata        = { disable-legacy-endpoints = "true" }

    gvnic {
      enabled = true
    }
    shielded_instance_config {
      enable_secure_boot          = each.value.facts.gpus == 0 || each.value.interfaces.kind == "none"
      enable_integrity_monitoring = true
    }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
    reservation_affinity {
      consume_reservation_type = each.value.kind == "reservation" ? "SPECIFIC_RESERVATION" : "NO_RESERVATION"
      key                      = each.value.kind == "reservation" ? "compute.googleapis.com/reservation-name" : null
      values                   = each.value.kind == "reservation" ? [var.reservations[each.value.pool]] : null
    }
    dynamic "guest_accelerator" {
      for_each = each.value.facts.gpus > 0 ? [each.value] : []
      content {
        type  = guest_accelerator.value.gpu
        count = guest_accelerator.value.facts.gpus
        gpu_driver_installation_config {
          gpu_driver_version = "LATEST"
        }
      }
    }
    dynamic "ephemeral_storage_local_ssd_config" {
      for_each = each.value.facts.local_disks > 0 ? [each.value.facts.local_disks] : []
      content {
        local_ssd_count = ephemeral_storage_local_ssd_config.value
      }
    }
    dynamic "taint" {
      for_each = each.value.taints
      content {
        key    = taint.value.key
        value  = taint.value.value
        effect = { NoSchedule = "NO_SCHEDULE", PreferNoSchedule = "PREFER_NO_SCHEDULE", NoExecute = "NO_EXECUTE" }[taint.value.effect]
      }
    }
  }
  lifecycle {
    precondition {
      condition     = each.value.facts.gpus == 0 || each.value.gpu != ""
      error_message = "pool ${each.value.pool}: Google Cloud's name of its GPU is not known; add it to accelerators in modules/gcp/table."
    }
  }
}
