variable "cluster_name" {
  type        = string
  description = "Name of the EKS cluster, which has the Pod Identity agent and nodes for Karpenter."
}

variable "subnets" {
  type        = map(string)
  description = "Zone, without the region -> private subnet of the nodes."
}

variable "node_role" {
  type        = object({ name = string, arn = string })
  description = "Role of the nodes."
}

variable "create_access_entry" {
  type        = bool
  default     = false
  description = "Create the access entry of the node role. EKS has made it if a managed group uses the role."
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
