variable "name" {
  type        = string
  description = "Start of the names of the service accounts."
  validation {
    condition     = length(var.name) <= 19
    error_message = "name: expected at most 19 characters; names of service accounts have at most 30."
  }
}

variable "project" {
  type        = string
  description = "Id of the project."
}

variable "workload_pool" {
  type        = string
  description = "Pool of workload identities of the cluster."
}

variable "namespace" {
  type        = string
  default     = "mm1"
  description = "Namespace of the chart."
}

variable "bucket" {
  type        = string
  description = "Bucket of the store."
}

variable "prefix" {
  type        = string
  default     = "mm1"
  description = "Prefix of the store in the bucket, as in s3://bucket/prefix; empty = the whole bucket."
  validation {
    condition     = !endswith(var.prefix, "/") && !startswith(var.prefix, "/")
    error_message = "prefix: expected no slash at either end; write mm1 instead of /mm1/."
  }
}

variable "model_prefix" {
  type        = string
  default     = null
  description = "Prefix of the store with served models; null = that of the store. The served model reads its blobs and manifests."
}

variable "reports_prefix" {
  type        = string
  default     = "argo"
  description = "Prefix of Argo's reports and logs: artifactRepository.keyPrefix of the chart."
}

variable "data_buckets" {
  type        = list(string)
  default     = []
  description = "Buckets with raw data, which steps may read."
}

variable "hmac" {
  type        = list(string)
  default     = []
  description = "Accounts (step, supervisor, rank, rollout, serve) that get an HMAC key, which the store's S3 client needs."
  validation {
    condition     = alltrue([for name in var.hmac : contains(["step", "supervisor", "rank", "rollout", "serve"], name)])
    error_message = "hmac: expected names among step, supervisor, rank, rollout and serve."
  }
}
