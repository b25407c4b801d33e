variable "cluster_name" {
  type        = string
  description = "Name of the EKS cluster."
}

variable "cluster_arn" {
  type        = string
  description = "ARN of the cluster."
}

variable "region" {
  type        = string
  description = "Region."
}

variable "vpc_id" {
  type        = string
  description = "VPC of the nodes."
}

variable "subnets" {
  type        = map(string)
  description = "Zone, without the region -> private subnet."
}

variable "security_group_id" {
  type        = string
  description = "Security group of the cluster and its nodes."
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

variable "table" {
  type        = string
  default     = null
  description = "Path of a table of pools; null = pools.yaml of the package."
}

variable "environment" {
  type        = string
  default     = ""
  description = "Environment of the table, whose sizes are used; empty = the pools' own sizes."
}

variable "sizes" {
  type        = map(object({ min = optional(number, 0), max = number }))
  default     = {}
  description = "Pool -> number of nodes, if it differs from the table. 0 creates no pool."
}

variable "reservations" {
  type        = map(object({ kind = string, id = string }))
  default     = {}
  description = "Pool -> the id (cr-...) of its capacity reservation (kind reservation) or capacity block (kind capacity-block)."
  validation {
    condition     = alltrue([for item in var.reservations : contains(["reservation", "capacity-block"], item.kind)])
    error_message = "reservations: expected kind reservation or capacity-block."
  }
}

variable "ami" {
  type        = string
  default     = "al2023@latest"
  description = "Image of Karpenter's nodes, as an alias; name a version (al2023@v20251007) to change it only on purpose."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of all resources."
}
