variable "name" {
  type        = string
  description = "Name of the cluster, and start of the names of all resources."
}

variable "project" {
  type        = string
  description = "Id of the project."
}

variable "region" {
  type        = string
  description = "Region."
}

variable "zones" {
  type        = list(string)
  default     = ["b"]
  description = "Zones without the region; pools without a zone of their own are in the first."
}

variable "environment" {
  type        = string
  default     = ""
  description = "Environment of pools.yaml, whose sizes are used; empty = the pools' own sizes."
}

variable "sizes" {
  type        = map(object({ min = optional(number, 0), max = number }))
  default     = {}
  description = "Pool -> number of nodes, if it differs from the table. 0 creates no pool."
}

variable "reservations" {
  type        = map(string)
  default     = {}
  description = "Pool -> name of its reservation."
}

variable "bucket" {
  type        = string
  description = "Name of the bucket of the store, unique in the world."
}

variable "prefix" {
  type        = string
  default     = "mm1"
  description = "Prefix of the store in the bucket."
}

variable "model_prefix" {
  type        = string
  default     = null
  description = "Prefix of the store with served models; null = that of the store."
}

variable "data_buckets" {
  type        = list(string)
  default     = []
  description = "Buckets with raw data, which steps may read."
}

variable "hmac" {
  type        = list(string)
  default     = []
  description = "Accounts that get an HMAC key for the store's S3 client; its secret is in the state."
}

variable "namespace" {
  type        = string
  default     = "mm1"
  description = "Namespace of the chart."
}

variable "nat" {
  type        = bool
  default     = true
  description = "NAT, for images and data outside of Google Cloud."
}

variable "admin_ranges" {
  type        = map(string)
  default     = {}
  description = "Name -> addresses that may reach the API; empty = only the DNS endpoint, by IAM."
}

variable "release_channel" {
  type        = string
  default     = "REGULAR"
  description = "Release channel of GKE."
}

variable "force_destroy" {
  type        = bool
  default     = false
  description = "Let Terraform delete the cluster, and the buckets even if they have objects. Only for trials."
}

variable "labels" {
  type        = map(string)
  default     = {}
  description = "Labels of all resources."
}

variable "placement_policies" {
  type        = map(string)
  default     = {}
  description = "Pool -> name of a compact placement policy that exists, for example that of its reservation."
}
