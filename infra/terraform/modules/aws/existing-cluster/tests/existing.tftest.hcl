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
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::111122223333:instance-profile/mm1" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:us-east-1:111122223333:mm1" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123", latest_version = 1 }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:111122223333:key/0123" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:us-east-1:111122223333:log-group:/aws/vpc/mm1" }
  }
  mock_data "aws_eks_cluster" {
    defaults = {
      arn        = "arn:aws:eks:us-east-1:111122223333:cluster/theirs"
      vpc_config = [{ vpc_id = "vpc-theirs", cluster_security_group_id = "sg-theirs" }]
    }
  }
}

variables {
  cluster_name = "theirs"
  region       = "us-east-1"
  bucket       = "mm1-test"
  subnets      = { a = "subnet-a" }
  node_role    = { name = "theirs-node", arn = "arn:aws:iam::111122223333:role/theirs-node" }
}

run "existing_cluster" {
  assert {
    condition     = output.profile.store == "s3://mm1-test/mm1" && output.profile.environment_secret == ""
    error_message = "the profile uses the bucket without keys"
  }
  assert {
    condition     = toset(keys(output.roles)) == toset(["step", "supervisor", "rank", "serve", "rollout"])
    error_message = "a role for each account"
  }
  assert {
    condition     = strcontains(output.karpenter, "sg-theirs") && strcontains(output.karpenter, "subnet-a") && output.karpenter_values.settings.clusterName == "theirs"
    error_message = "nodes join the cluster that exists"
  }
}
