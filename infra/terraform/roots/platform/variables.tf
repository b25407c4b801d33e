variable "kubeconfig" {
  type        = string
  default     = "~/.kube/config"
  description = "Path of the kubeconfig."
}

variable "context" {
  type        = string
  description = "Context of the cluster in the kubeconfig."
}

variable "cloud" {
  type        = string
  description = "aws or gcp."
}

variable "environment" {
  type        = string
  description = "Environment of pools.yaml: dev or prod."
}

variable "profile" {
  type        = string
  default     = ""
  description = "Profile of the workflow templates, made by mm1 compile."
}

variable "chart_values" {
  type        = any
  default     = {}
  description = "Output of the environment."
}

variable "site_values" {
  type        = any
  default     = {}
  description = "Your own values of the chart mm1."
}

variable "documents" {
  type        = any
  default     = {}
  description = "Output of the environment."
}

variable "queued_pools" {
  type        = list(string)
  default     = []
  description = "Output of the environment on Google Cloud."
}

variable "karpenter_values" {
  type        = any
  default     = {}
  description = "Output of the environment on AWS."
}
