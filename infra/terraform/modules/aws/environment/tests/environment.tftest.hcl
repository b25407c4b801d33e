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
  mock_resource "aws_eks_cluster" {
    defaults = {
      arn                   = "arn:aws:eks:us-east-1:111122223333:cluster/mm1"
      certificate_authority = [{ data = "Y2E=" }]
    }
  }
}

variables {
  name   = "mm1"
  region = "us-east-1"
  bucket = "mm1-test"
  admins = ["arn:aws:iam::111122223333:role/admin"]
}

run "environment" {
  assert {
    condition     = output.chart_values.artifactRepository.bucket == "mm1-test" && output.chart_values.networkPolicy.identity.enabled
    error_message = "the chart uses the bucket by the pods' identity"
  }
  assert {
    condition     = length(regexall("\"kind\": \"NodePool\"", output.karpenter)) == 3
    error_message = "documents for the pools cpu, eval-l40s and serve-l40s"
  }
  assert {
    condition     = output.karpenter_values.settings.interruptionQueue == "mm1-interruption"
    error_message = "Karpenter reads the notices of this cluster"
  }
}
