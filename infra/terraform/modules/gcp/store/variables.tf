variable "project" {
  type        = string
  description = "Id of the project."
}

variable "region" {
  type        = string
  description = "Region of the bucket; that of the nodes."
}

variable "bucket" {
  type        = string
  description = "Name of the bucket, unique in the world; that of its access logs has the suffix -logs."
}

variable "noncurrent_days" {
  type        = number
  default     = 30
  description = "Days for which overwritten and deleted objects can be restored."
}

variable "access_logs" {
  type        = bool
  default     = true
  description = "Keep logs of accesses, in a bucket of their own."
}

variable "log_days" {
  type        = number
  default     = 365
  description = "Days for which access logs are kept."
}

variable "force_destroy" {
  type        = bool
  default     = false
  description = "Delete the buckets even if they have objects. Only for tests and trials."
}

variable "labels" {
  type        = map(string)
  default     = {}
  description = "Labels of all resources."
}
