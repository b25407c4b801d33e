variable "cloud" {
  type        = string
  description = "aws or gcp."
  validation {
    condition     = contains(["aws", "gcp"], var.cloud)
    error_message = "cloud: expected aws or gcp."
  }
}

variable "environment" {
  type        = string
  default     = ""
  description = "Environment of pools.yaml, whose sizes are used; empty = the pools' own sizes."
}

variable "table" {
  type        = string
  default     = null
  description = "Path of a table of pools; null = pools.yaml of the package."
}

variable "sizes" {
  type        = map(object({ min = optional(number, 0), max = number }))
  default     = {}
  description = "Pool -> number of nodes, if it differs from the table."
}

variable "namespace" {
  type        = string
  default     = "mm1"
  description = "Namespace of the chart mm1."
}

variable "profile" {
  type        = string
  default     = ""
  description = "Profile of the workflow templates, made by mm1 compile; empty = the default one."
}

variable "queued_pools" {
  type        = list(string)
  default     = []
  description = "Pools whose nodes are queued for: output of the environment on Google Cloud."
}

variable "karpenter_values" {
  type        = any
  default     = {}
  description = "Values of Karpenter: output of the environment on AWS."
}

variable "dra_version" {
  type        = string
  default     = null
  description = "Version of NVIDIA's DRA driver; needed if a pool of the table has devices: dra."
}
