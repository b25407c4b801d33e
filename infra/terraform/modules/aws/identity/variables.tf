variable "cluster_name" {
  type        = string
  description = "Name of the EKS cluster."
}

variable "cluster_arn" {
  type        = string
  description = "ARN of the cluster; only its pods can assume the roles."
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

variable "kms_key_arn" {
  type        = string
  description = "Key of the bucket's objects."
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
  description = "ARNs of buckets with raw data, which steps may read."
}

variable "associate" {
  type        = bool
  default     = true
  description = "Give the roles to the accounts by EKS Pod Identity; false = only create roles."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of all resources."
}
