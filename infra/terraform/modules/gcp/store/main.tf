# The bucket of the store. Its objects are encrypted by a key of this project.

data "google_storage_project_service_account" "this" {
  project = var.project
}

resource "google_kms_key_ring" "store" {
  name     = var.bucket
  project  = var.project
  location = var.region
}

resource "google_kms_crypto_key" "store" {
  name            = "objects"
  key_ring        = google_kms_key_ring.store.id
  rotation_period = "7776000s" # 90 days
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "storage" {
  crypto_key_id = google_kms_crypto_key.store.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

resource "google_storage_bucket" "logs" {
  # checkov:skip=CKV_GCP_62: the logs of the logs' bucket would be its own
  count                       = var.access_logs ? 1 : 0
  name                        = "${var.bucket}-logs"
  project                     = var.project
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy
  labels                      = var.labels
  versioning {
    enabled = true
  }
  lifecycle_rule {
    condition {
      age = var.log_days
    }
    action {
      type = "Delete"
    }
  }
}

resource "google_storage_bucket_iam_member" "logs" {
  count  = var.access_logs ? 1 : 0
  bucket = google_storage_bucket.logs[0].name
  role   = "roles/storage.objectCreator"
  member = "group:cloud-storage-analytics@google.com"
}

resource "google_storage_bucket" "store" {
  # checkov:skip=CKV_GCP_62: access_logs decides
  name                        = var.bucket
  project                     = var.project
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy
  labels                      = var.labels

  versioning {
    enabled = true
  }
  encryption {
    default_kms_key_name = google_kms_crypto_key.store.id
  }
  # Overwritten and deleted objects can be restored for a while; checkpoints of unfinished work make many.
  lifecycle_rule {
    condition {
      days_since_noncurrent_time = var.noncurrent_days
      with_state                 = "ARCHIVED"
    }
    action {
      type = "Delete"
    }
  }
  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
  dynamic "logging" {
    for_each = var.access_logs ? [google_storage_bucket.logs[0].name] : []
    content {
      log_bucket = logging.value
    }
  }
  depends_on = [google_kms_crypto_key_iam_member.storage]
}
