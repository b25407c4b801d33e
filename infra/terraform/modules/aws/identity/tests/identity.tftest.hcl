mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/test" }
  }
}

variables {
  cluster_name = "mm1"
  cluster_arn  = "arn:aws:eks:us-east-1:111122223333:cluster/mm1"
  bucket       = "mm1-test"
  kms_key_arn  = "arn:aws:kms:us-east-1:111122223333:key/0123"
  data_buckets = ["arn:aws:s3:::raw"]
}

run "identity" {
  assert {
    condition = { for account, item in aws_eks_pod_identity_association.account : account => item.service_account } == {
      step = "mm1-step", supervisor = "mm1-supervisor", rank = "mm1-rank", serve = "mm1-serve", rollout = "mm1-rollout"
    }
    error_message = "each account of the chart has its role"
  }
  assert {
    condition = alltrue(flatten([for policy in aws_iam_role_policy.account : [for item in jsondecode(policy.policy).Statement : [
      [for action in item.Action : !strcontains(action, "*")],
      [for resource in item.Resource : resource != "*" && resource != "arn:aws:s3:::mm1-test/*"],
    ]]]))
    error_message = "no policy has a wildcard for actions, for resources, or for the whole bucket"
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.account["serve"].policy).Statement == jsondecode(jsonencode([
      { Effect = "Allow", Action = ["s3:GetObject"], Resource = ["arn:aws:s3:::mm1-test/mm1/blobs/*", "arn:aws:s3:::mm1-test/mm1/manifests/*"] },
      { Effect = "Allow", Action = ["kms:Decrypt"], Resource = [var.kms_key_arn] },
    ]))
    error_message = "the served model reads models, lists nothing and writes nothing"
  }
  assert {
    condition = alltrue([for account in ["step", "serve", "rollout"] : !strcontains(
      aws_iam_role_policy.account[account].policy, "s3:DeleteObject"
    )])
    error_message = "only training deletes"
  }
  assert {
    condition = alltrue(flatten([for item in jsondecode(aws_iam_role_policy.account["rank"].policy).Statement : [
      for resource in item.Resource : !strcontains(resource, "/serving/") && !strcontains(resource, "/cache/") && !strcontains(resource, "/argo/")
    ]]))
    error_message = "ranks write neither the step cache nor what is served"
  }
  assert {
    condition = alltrue([for role in aws_iam_role.account :
      jsondecode(role.assume_role_policy).Statement[0].Condition.ArnEquals["aws:SourceArn"] == var.cluster_arn
    ])
    error_message = "only pods of this cluster can assume the roles"
  }
  assert {
    condition = alltrue([for account, policy in aws_iam_role_policy.account :
      strcontains(policy.policy, "arn:aws:s3:::raw") == (account == "step")
    ])
    error_message = "only steps read raw data"
  }
}

run "models_of_their_own" {
  variables {
    model_prefix = "released"
    associate    = false
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.account["serve"].policy).Statement[0].Resource[0] == "arn:aws:s3:::mm1-test/released/blobs/*"
    error_message = "the served model reads only the prefix of released models"
  }
  assert {
    condition     = length(aws_eks_pod_identity_association.account) == 0
    error_message = "no association without a cluster"
  }
}

run "prefix_with_a_slash" {
  command = plan
  variables {
    prefix = "mm1/"
  }
  expect_failures = [var.prefix]
}
