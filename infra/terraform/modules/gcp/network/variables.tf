variable "name" {
  type        = string
  description = "Name of the network, and start of the names of its parts."
}

variable "project" {
  type        = string
  description = "Id of the project."
}

variable "region" {
  type        = string
  description = "Region."
}

variable "cidr" {
  type        = string
  default     = "10.64.0.0/14"
  description = "Addresses: the upper half is for pods, a sixteenth each for nodes and services."
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]), 32) <= 16
    error_message = "cidr: expected a range of at least /16 such as 10.64.0.0/14; pods take half of it."
  }
}

variable "fast_cidr" {
  type        = string
  default     = "10.128.0.0/12"
  description = "Addresses of the networks between GPUs, a /20 each; outside of cidr."
}

variable "nat" {
  type        = bool
  default     = true
  description = "NAT, for images and data outside of Google Cloud; false = only Google's services."
}

variable "interfaces" {
  type        = map(object({ kind = string, count = number }))
  default     = {}
  description = "Pool -> its interfaces for traffic between GPUs, from the table."
}

variable "zones" {
  type        = map(string)
  default     = {}
  description = "Pool -> its zone without the region; needed for RDMA, whose networks belong to a zone."
}
