# A Google service account per account of the chart, with the folders of the store that it needs, and the right of its pods to be it.
# The layout of a store is described in model/mm1/store/base.py. The store's client speaks S3, for which Cloud Storage wants HMAC
# keys: see `hmac`.

locals {
  project = "${path.module}/../../../../.."
  chart   = yamldecode(file("${local.project}/charts/mm1/values.yaml"))

  prefix   = var.prefix == "" ? "" : "${var.prefix}/"
  model    = var.model_prefix == null ? local.prefix : "${var.model_prefix}/"
  start    = "projects/_/buckets/${var.bucket}/objects/"
  results  = ["blobs", "manifests", "runs", "cache"]
  training = ["blobs", "manifests", "resume", "watch", "launch"] # superseded checkpoints, progress and results are deleted

  # Folders below the prefix: `user` reads, writes and deletes; `creator` writes new objects. Overwriting needs the right to delete.
  access = {
    step       = { read = [local.prefix], user = [for name in concat(local.results, ["features", "mixes", "pins", "serving", "retraining"]) : "${local.prefix}${name}/"], reports = true }
    supervisor = { read = [local.prefix], user = [for name in distinct(concat(local.results, local.training)) : "${local.prefix}${name}/"], reports = true }
    rank       = { read = [local.prefix], user = [for name in local.training : "${local.prefix}${name}/"], reports = false }
    rollout    = { read = [local.prefix], user = [for name in concat(local.results, ["serving"]) : "${local.prefix}${name}/"], reports = true }
    serve      = { read = ["${local.model}blobs/", "${local.model}manifests/"], user = [], reports = false }
  }

  grants = merge([for account, rights in local.access : merge(
    { "${account}-read" = { account = account, role = "roles/storage.objectViewer", starts = rights.read } },
    { for suffix, starts in { write = concat(rights.user, rights.reports ? ["${var.reports_prefix}/"] : []) } :
    "${account}-${suffix}" => { account = account, role = "roles/storage.objectUser", starts = starts } if length(starts) > 0 },
  )]...)
}

resource "google_service_account" "account" {
  for_each     = local.access
  account_id   = "${var.name}-${each.key}"
  project      = var.project
  display_name = "Pods of ${local.chart.accounts[each.key].name} in ${var.namespace}"
}

resource "google_service_account_iam_member" "pods" {
  for_each           = local.access
  service_account_id = google_service_account.account[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.workload_pool}[${var.namespace}/${local.chart.accounts[each.key].name}]"
}

resource "google_storage_bucket_iam_member" "account" {
  for_each = local.grants
  bucket   = var.bucket
  role     = each.value.role
  member   = "serviceAccount:${google_service_account.account[each.value.account].email}"
  condition {
    title       = each.key
    description = "Only these prefixes of the bucket"
    expression  = join(" || ", [for start in each.value.starts : "resource.name.startsWith(\"${local.start}${start}\")"])
  }
}

# Listing is a right on the bucket: the condition on names of objects does not hold for it.
resource "google_storage_bucket_iam_member" "list" {
  for_each = { for account, rights in local.access : account => rights if account != "serve" }
  bucket   = var.bucket
  role     = "roles/storage.legacyBucketReader"
  member   = "serviceAccount:${google_service_account.account[each.key].email}"
}

resource "google_storage_bucket_iam_member" "data" {
  for_each = toset(var.data_buckets)
  bucket   = each.key
  role     = "roles/storage.objectViewer"
  member   = "serviceAccount:${google_service_account.account["step"].email}"
}

# Keys do not expire, and Terraform's state has their secrets: only if asked for.
resource "google_storage_hmac_key" "account" {
  for_each              = toset(var.hmac)
  project               = var.project
  service_account_email = google_service_account.account[each.key].email
}
