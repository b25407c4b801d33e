# A role per service account of the chart, which EKS Pod Identity gives to its pods: only the folders of the store that it needs.
# The layout of a store is described in model/mm1/store/base.py.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  project = "${path.module}/../../../../.."
  chart   = yamldecode(file("${local.project}/charts/mm1/values.yaml"))

  bucket_arn = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket}"
  prefix     = var.prefix == "" ? "" : "${var.prefix}/"
  model      = var.model_prefix == null ? local.prefix : "${var.model_prefix}/"
  results    = ["blobs", "manifests", "runs", "cache"]
  training   = ["blobs", "manifests", "resume", "watch", "launch"] # superseded checkpoints, progress and results are deleted

  access = {
    step       = { read = true, reports = true, delete = [], write = concat(local.results, ["features", "mixes", "pins", "serving", "retraining"]) }
    supervisor = { read = true, reports = true, delete = local.training, write = distinct(concat(local.results, local.training)) }
    rank       = { read = true, reports = false, delete = local.training, write = local.training }
    rollout    = { read = true, reports = true, delete = [], write = concat(local.results, ["serving"]) }
    serve      = { read = false, reports = false, delete = [], write = [] }
  }

  objects = { for account, rights in local.access : account => {
    "s3:GetObject" = concat(
      rights.read ? ["${local.bucket_arn}/${local.prefix}*"] : [for name in ["blobs", "manifests"] : "${local.bucket_arn}/${local.model}${name}/*"],
      rights.reports ? ["${local.bucket_arn}/${var.reports_prefix}/*"] : [],
    )
    "s3:PutObject" = concat(
      [for name in rights.write : "${local.bucket_arn}/${local.prefix}${name}/*"],
      rights.reports ? ["${local.bucket_arn}/${var.reports_prefix}/*"] : [],
    )
    "s3:AbortMultipartUpload" = [for name in rights.write : "${local.bucket_arn}/${local.prefix}${name}/*"]
    "s3:DeleteObject"         = [for name in rights.delete : "${local.bucket_arn}/${local.prefix}${name}/*"]
  } }

  below_prefix = { for name, value in { StringLike = { "s3:prefix" = ["${local.prefix}*"] } } : "Condition" => { (name) = value } if local.prefix != "" }

  statements = { for account, rights in local.access : account => concat(
    [for action, resources in local.objects[account] : { Effect = "Allow", Action = [action], Resource = resources } if length(resources) > 0],
    [for item in [
      { Effect = "Allow", Action = ["s3:GetBucketLocation"], Resource = [local.bucket_arn] },
      merge({ Effect = "Allow", Action = ["s3:ListBucket"], Resource = [local.bucket_arn] }, local.below_prefix),
    ] : item if rights.read],
    [{
      Effect = "Allow", Action = concat(["kms:Decrypt"], length(rights.write) > 0 ? ["kms:GenerateDataKey"] : []), Resource = [var.kms_key_arn]
    }],
    [for item in [
      { Effect = "Allow", Action = ["s3:GetObject"], Resource = [for arn in var.data_buckets : "${arn}/*"] },
      { Effect = "Allow", Action = ["s3:ListBucket"], Resource = var.data_buckets },
    ] : item if account == "step" && length(var.data_buckets) > 0],
  ) }
}

resource "aws_iam_role" "account" {
  for_each    = local.access
  name        = "${var.cluster_name}-${local.chart.accounts[each.key].name}"
  description = "Pods of the service account ${local.chart.accounts[each.key].name} in ${var.namespace}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
        ArnEquals    = { "aws:SourceArn" = var.cluster_arn }
      }
    }]
  })
  tags = var.tags
}

resource "aws_iam_role_policy" "account" {
  for_each = local.access
  name     = "store"
  role     = aws_iam_role.account[each.key].name
  policy   = jsonencode({ Version = "2012-10-17", Statement = local.statements[each.key] })
}

resource "aws_eks_pod_identity_association" "account" {
  for_each        = var.associate ? local.access : {}
  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = local.chart.accounts[each.key].name
  role_arn        = aws_iam_role.account[each.key].arn
  tags            = var.tags
}
