variable "name" {
  type        = string
  description = "Name of the cluster."
}

variable "region" {
  type        = string
  description = "Region."
}

variable "kubernetes_version" {
  type        = string
  default     = "1.34"
  description = "Version of Kubernetes."
}

variable "subnets" {
  type        = map(string)
  description = "Zone -> private subnet, at least two."
}

variable "public_cidrs" {
  type        = list(string)
  default     = []
  description = "Addresses that reach the API from the internet; empty = only the VPC and what is connected to it."
  validation {
    condition     = !contains(var.public_cidrs, "0.0.0.0/0")
    error_message = "public_cidrs: expected the addresses of your offices, got the whole internet."
  }
}

variable "admins" {
  type        = list(string)
  description = "ARNs of IAM roles that administer the cluster; whoever applies needs to be one to install charts."
}

variable "system" {
  type        = object({ machine = string, size = number })
  default     = { machine = "m7i.large", size = 2 }
  description = "Nodes for DNS and Karpenter, which pods of MM1 do not use."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of all resources."
}
