output "vpc_id" {
  value       = aws_vpc.this.id
  description = "The VPC."
}

output "subnets" {
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }
  description = "Zone, without the region -> its private subnet."
}
