variable "name" {
  type        = string
  default     = "mm1-prod"
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

variable "bucket" {
  type        = string
  description = "Name of the bucket of the store, unique in the world."
}

variable "data_buckets" {
  type        = list(string)
  default     = []
  description = "Buckets with raw data, which steps may read."
}

variable "admin_ranges" {
  type        = map(string)
  default     = {}
  description = "Name -> addresses that may reach the API; empty = only the DNS endpoint, by IAM."
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

variable "hmac" {
  type        = list(string)
  default     = []
  description = "Accounts that get an HMAC key for the store's S3 client; its secret is in the state."
}

variable "placement_policies" {
  type        = map(string)
  default     = {}
  description = "Pool -> name of a compact placement policy that exists, for example that of its reservation."
}
