variable "cluster" {
  type        = string
  description = "Id of the cluster."
}

variable "region" {
  type        = string
  description = "Region."
}

variable "groups" {
  type        = any
  description = "Output `groups` of modules/gcp/table."
}

variable "fast" {
  type        = map(list(object({ network = string, subnetwork = string, object = string, kind = string })))
  default     = {}
  description = "Output `fast` of modules/gcp/network."
}

variable "node_account" {
  type        = string
  description = "Service account of the nodes."
}

variable "reservations" {
  type        = map(string)
  default     = {}
  description = "Pool -> name of its reservation."
}

variable "labels" {
  type        = map(string)
  default     = {}
  description = "Labels of the machines."
}

variable "placement_policies" {
  type        = map(string)
  default     = {}
  description = "Pool -> name of a compact placement policy that exists, for example that of its reservation."
}
