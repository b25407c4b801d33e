variable "bucket" {
  type        = string
  description = "Name of the bucket; that of its access logs has the suffix -logs."
}

variable "noncurrent_days" {
  type        = number
  default     = 30
  description = "Days for which overwritten and deleted objects can be restored."
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

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of all resources."
}
