variable "name" {
  type        = string
  description = "Name of the network and of its resources."
}

variable "region" {
  type        = string
  description = "Region."
}

variable "zones" {
  type        = list(string)
  default     = ["a", "b"]
  description = "Zones without the region. EKS needs two; pools without a zone of their own are in the first."
  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 3
    error_message = "zones: expected 2 or 3 zones, because EKS needs two and the network has room for three."
  }
}

variable "cidr" {
  type        = string
  default     = "10.64.0.0/16"
  description = "Addresses: a /16. Three quarters are private subnets, the rest is for NAT."
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr: expected a /16 such as 10.64.0.0/16."
  }
}

variable "nat_gateways" {
  type        = number
  default     = 1
  description = "NAT gateways: 0 = no internet at all (all images in ECR), 1 = one zone, 2 or 3 = one per zone."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of all resources."
}
