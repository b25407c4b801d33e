variable "name" {
  type        = string
  description = "Name of the cluster, and prefix of the names of all resources."
}

variable "kubernetes_version" {
  type        = string
  default     = "1.34"
  description = "Version of Kubernetes."
}

variable "nat_gateways" {
  type        = number
  default     = 1
  description = "NAT gateways: 0 = no internet at all, 1 = one zone, 2 or 3 = one per zone."
}

variable "admins" {
  type        = list(string)
  description = "ARNs of IAM roles that administer the cluster."
}

variable "public_cidrs" {
  type        = list(string)
  default     = []
  description = "Addresses that reach the API from the internet; empty = only the VPC and what is connected to it."
}

variable "zones" {
  type        = list(string)
  default     = ["a", "b"]
  description = "Two or three zones, without the region."
}

variable "region" {
  type        = string
  description = "Region."
}

variable "environment" {
  type        = string
  default     = ""
  description = "Environment of pools.yaml, whose sizes are used; empty = the pools' own sizes."
}

variable "bucket" {
  type        = string
  description = "Name of the bucket of the store; it is unique among all accounts."
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
  description = "ARNs of buckets with raw data, which steps may read."
}

variable "namespace" {
  type        = string
  default     = "mm1"
  description = "Namespace of the chart."
}

variable "sizes" {
  type        = map(object({ min = optional(number, 0), max = number }))
  default     = {}
  description = "Pool -> number of nodes, if it differs from the table. 0 creates no pool."
}

variable "reservations" {
  type        = map(object({ kind = string, id = string }))
  default     = {}
  description = "Pool -> its capacity reservation or capacity block."
}

variable "force_destroy" {
  type        = bool
  default     = false
  description = "Delete the bucket even if it has objects. Only for trials."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of all resources."
}
