variable "name" {
  type        = string
  description = "Name of the cluster."
  validation {
    condition     = can(regex("^[a-z][-a-z0-9]{1,22}[a-z0-9]$", var.name))
    error_message = "name: expected 3 to 24 lower-case letters, digits and dashes; the account of the nodes has it as its start."
  }
}

variable "project" {
  type        = string
  description = "Id of the project."
}

variable "region" {
  type        = string
  description = "Region of the control plane."
}

variable "zones" {
  type        = list(string)
  description = "Zones of the nodes, without the region."
}

variable "network" {
  type        = string
  description = "Network of the cluster."
}

variable "subnetwork" {
  type        = string
  description = "Subnet with the ranges `pods` and `services`."
}

variable "admin_ranges" {
  type        = map(string)
  default     = {}
  description = "Name -> addresses that may reach the API, in CIDR notation; empty = only the DNS endpoint, by IAM."
  validation {
    condition     = !contains(values(var.admin_ranges), "0.0.0.0/0")
    error_message = "admin_ranges: 0.0.0.0/0 opens the API to everybody; give your own addresses, or none for the DNS endpoint."
  }
}

variable "security_group" {
  type        = string
  default     = ""
  description = "Google group gke-security-groups@... for RBAC; empty = none."
}

variable "release_channel" {
  type        = string
  default     = "REGULAR"
  description = "Release channel: RAPID, REGULAR, STABLE or EXTENDED."
  validation {
    condition     = contains(["RAPID", "REGULAR", "STABLE", "EXTENDED"], var.release_channel)
    error_message = "release_channel: expected RAPID, REGULAR, STABLE or EXTENDED."
  }
}

variable "deletion_protection" {
  type        = bool
  default     = true
  description = "Refuse to delete the cluster."
}

variable "labels" {
  type        = map(string)
  default     = {}
  description = "Labels of all resources."
}
