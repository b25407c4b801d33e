variable "zones" {
  type        = list(string)
  default     = ["b"]
  description = "Zones without the region; pools without a zone of their own are in the first."
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
  type        = map(string)
  default     = {}
  description = "Pool -> name of its reservation. A pool without one uses its next capacity type."
}
