mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:us-east-1:111122223333:log-group:/aws/vpc/mm1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/mm1-flow-logs" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:111122223333:key/0123" }
  }
}

variables {
  name   = "mm1"
  region = "us-east-1"
}

run "network" {
  assert {
    condition     = { for zone, subnet in aws_subnet.private : zone => subnet.cidr_block } == { a = "10.64.0.0/18", b = "10.64.64.0/18" }
    error_message = "a private subnet per zone"
  }
  assert {
    condition     = alltrue([for subnet in concat(values(aws_subnet.private), values(aws_subnet.public)) : subnet.map_public_ip_on_launch != true])
    error_message = "no machine gets a public address"
  }
  assert {
    condition     = aws_subnet.public["a"].cidr_block == "10.64.192.0/26" && length(aws_subnet.public) == 1
    error_message = "one small public subnet, for NAT"
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && length(aws_vpc_endpoint.s3.route_table_ids) == 2
    error_message = "S3 is reached by a gateway endpoint from every private subnet"
  }
  assert {
    condition     = toset(["ecr.api", "ecr.dkr", "eks-auth", "sts"]) == setintersection(["ecr.api", "ecr.dkr", "eks-auth", "sts"], keys(aws_vpc_endpoint.interface))
    error_message = "images and identities need no internet"
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints.cidr_ipv4 == "10.64.0.0/16" && aws_flow_log.this.traffic_type == "ALL"
    error_message = "only the VPC reaches the endpoints, and all connections are logged"
  }
}

run "without_internet" {
  variables {
    nat_gateways = 0
  }
  assert {
    condition     = length(aws_internet_gateway.this) == 0 && length(aws_route.nat) == 0 && length(aws_eip.nat) == 0
    error_message = "no way to the internet"
  }
}

run "one_zone" {
  command = plan
  variables {
    zones = ["a"]
  }
  expect_failures = [var.zones]
}
