variable "cloud" {
  type        = string
  description = "aws or gcp."
}

variable "environment" {
  type        = string
  default     = ""
  description = "Environment of pools.yaml, whose sizes are used; empty = the pools' own sizes."
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

variable "chart_values" {
  type        = any
  default     = {}
  description = "Values of the chart mm1: output of the environment."
}

variable "site_values" {
  type        = any
  default     = {}
  description = "More values of the chart mm1, which are preferred."
}

variable "documents" {
  type        = any
  default     = {}
  description = "Name -> object of the cluster: output of the environment (fast networks on Google Cloud, Karpenter's pools on AWS)."
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
