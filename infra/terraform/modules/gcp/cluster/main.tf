# A private GKE Standard cluster. Dataplane V2 and multi-networking can only be chosen when a cluster is created.

data "google_project" "this" {
  project_id = var.project
}

resource "google_kms_key_ring" "this" {
  name     = var.name
  project  = var.project
  location = var.region
}

resource "google_kms_crypto_key" "secrets" {
  name            = "secrets"
  key_ring        = google_kms_key_ring.this.id
  rotation_period = "7776000s" # 90 days
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "gke" {
  crypto_key_id = google_kms_crypto_key.secrets.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:service-${data.google_project.this.number}@container-engine-robot.iam.gserviceaccount.com"
}

# Nodes write logs and metrics and pull images. Pods have identities of their own.
resource "google_service_account" "nodes" {
  account_id   = "${var.name}-nodes"
  project      = var.project
  display_name = "Nodes of ${var.name}"
}

resource "google_project_iam_member" "nodes" {
  for_each = toset(["roles/container.defaultNodeServiceAccount", "roles/artifactregistry.reader"])
  project  = var.project
  role     = each.key
  member   = "serviceAccount:${google_service_account.nodes.email}"
}

resource "google_container_cluster" "this" {
  # checkov:skip=CKV_GCP_65: a group for RBAC needs a Google Workspace, see security_group
  # checkov:skip=CKV_GCP_66: images are pinned by digest; Binary Authorization needs attestors that this project does not have
  # checkov:skip=CKV_GCP_12: Dataplane V2 enforces NetworkPolicy itself
  # checkov:skip=CKV_GCP_69: node pools set GKE_METADATA; the default pool is removed
  name                        = var.name
  project                     = var.project
  location                    = var.region
  node_locations              = [for zone in var.zones : "${var.region}-${zone}"]
  network                     = var.network
  subnetwork                  = var.subnetwork
  networking_mode             = "VPC_NATIVE"
  datapath_provider           = "ADVANCED_DATAPATH"
  enable_multi_networking     = true
  enable_shielded_nodes       = true
  enable_intranode_visibility = true
  enable_legacy_abac          = false
  deletion_protection         = var.deletion_protection
  resource_labels             = var.labels

  remove_default_node_pool = true
  initial_node_count       = 1
  node_config {
    service_account = google_service_account.nodes.email
    metadata        = { disable-legacy-endpoints = "true" }
    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }
  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = length(var.admin_ranges) == 0
  }
  master_authorized_networks_config {
    gcp_public_cidrs_access_enabled = false
    dynamic "cidr_blocks" {
      for_each = var.admin_ranges
      content {
        cidr_block   = cidr_blocks.value
        display_name = cidr_blocks.key
      }
    }
  }
  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = true # IAM decides; no address is open
    }
  }
  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }
  dynamic "authenticator_groups_config" {
    for_each = var.security_group == "" ? [] : [var.security_group]
    content {
      security_group = authenticator_groups_config.value
    }
  }
  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }
  database_encryption {
    state    = "ENCRYPTED"
    key_name = google_kms_crypto_key.secrets.id
  }
  release_channel {
    channel = var.release_channel
  }
  maintenance_policy {
    recurring_window {
      start_time = "2026-01-03T02:00:00Z"
      end_time   = "2026-01-03T10:00:00Z"
      recurrence = "FREQ=WEEKLY;BYDAY=SA,SU"
    }
  }
  addons_config {
    dns_cache_config {
      enabled = true
    }
  }
  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "APISERVER", "CONTROLLER_MANAGER", "SCHEDULER", "WORKLOADS"]
  }
  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS"]
    managed_prometheus {
      enabled = true
    }
  }
  lifecycle {
    ignore_changes = [node_config, initial_node_count] # of the pool that was removed
  }
  depends_on = [google_kms_crypto_key_iam_member.gke, google_project_iam_member.nodes]
}
