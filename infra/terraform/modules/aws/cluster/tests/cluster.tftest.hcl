mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/mm1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:111122223333:key/0123" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = { certificate_authority = [{ data = "Y2E=" }] }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123", latest_version = 1 }
  }
}

variables {
  name    = "mm1"
  region  = "us-east-1"
  subnets = { a = "subnet-a", b = "subnet-b" }
  admins  = ["arn:aws:iam::111122223333:role/admin"]
}

run "cluster" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "the API is private"
  }
  assert {
    condition     = toset(aws_eks_cluster.this.enabled_cluster_log_types) == toset(["api", "audit", "authenticator", "controllerManager", "scheduler"])
    error_message = "all logs of the control plane"
  }
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == aws_kms_key.cluster.arn
    error_message = "secrets are encrypted with the cluster's key"
  }
  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "only access entries give access"
  }
  assert {
    condition     = toset(concat([for addon in aws_eks_addon.early : addon.addon_name], [aws_eks_addon.coredns.addon_name])) == toset(["vpc-cni", "kube-proxy", "eks-pod-identity-agent", "coredns"])
    error_message = "the add-ons"
  }
  assert {
    condition     = jsondecode(aws_eks_addon.early["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "network policies are enforced"
  }
  assert {
    condition     = aws_launch_template.system.metadata_options[0].http_tokens == "required" && aws_launch_template.system.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "pods cannot use the identity of their node"
  }
  assert {
    condition     = one(aws_eks_node_group.system.taint).key == "CriticalAddonsOnly"
    error_message = "pods of MM1 stay off the system's nodes"
  }
}

run "open_to_the_internet" {
  command = plan
  variables {
    public_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.public_cidrs]
}
