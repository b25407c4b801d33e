variable "name" {
  type        = string
  default     = "mm1-prod"
  description = "Name of the cluster, and prefix of the names of all resources."
}

variable "region" {
  type        = string
  description = "Region."
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

variable "bucket" {
  type        = string
  description = "Name of the bucket of the store; it is unique among all accounts."
}

variable "data_buckets" {
  type        = list(string)
  default     = []
  description = "ARNs of buckets with raw data, which steps may read."
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
