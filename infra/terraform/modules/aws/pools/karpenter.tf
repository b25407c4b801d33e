# What Karpenter needs in AWS, and its documents. The chart of Karpenter is installed separately, in kube-system.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  partition      = data.aws_partition.current.partition
  account        = data.aws_caller_identity.current.account_id
  cluster_tag    = "kubernetes.io/cluster/${var.cluster_name}"
  capacity_types = { reservation = "reserved", spot = "spot", on-demand = "on-demand" }

  documents = merge(
    { for name, pool in local.karpenter : "${name}-ec2nodeclass" => {
      apiVersion = "karpenter.k8s.aws/v1"
      kind       = "EC2NodeClass"
      metadata   = { name = name }
      spec = merge({
        amiSelectorTerms           = [{ alias = var.ami }]
        instanceProfile            = aws_iam_instance_profile.node.name
        subnetSelectorTerms        = [for zone in(try(local.table.pools[name].nodes.aws.zone, "") == "" ? local.zones : [pool.zone]) : { id = var.subnets[zone] }]
        securityGroupSelectorTerms = [{ id = var.security_group_id }]
        metadataOptions            = { httpEndpoint = "enabled", httpTokens = "required", httpPutResponseHopLimit = 1 }
        blockDeviceMappings        = [{ deviceName = local.boot_disk, ebs = { volumeSize = "${pool.disk_gib}Gi", volumeType = "gp3", encrypted = true } }]
        tags                       = merge(var.tags, { Name = "${var.cluster_name}-${name}" })
        },
        { for field, value in { instanceStorePolicy = "RAID0" } : field => value if pool.facts.local_disks > 0 },
        { for field, value in { capacityReservationSelectorTerms = [{ id = try(var.reservations[name].id, "") }] } : field => value if can(var.reservations[name].id) },
      )
    } },
    { for name, pool in local.karpenter : "${name}-nodepool" => {
      apiVersion = "karpenter.sh/v1"
      kind       = "NodePool"
      metadata   = { name = name }
      spec = {
        limits = merge(
          { cpu = tostring(pool.size.max * pool.facts.cpus) },
          { for field, value in { "nvidia.com/gpu" = tostring(pool.size.max * pool.facts.gpus) } : field => value if pool.facts.gpus > 0 },
        )
        # A node goes when its last pod has gone: steps are not moved.
        disruption = { consolidationPolicy = "WhenEmpty", consolidateAfter = "10m" }
        template = {
          metadata = { labels = pool.labels }
          spec = {
            nodeClassRef = { group = "karpenter.k8s.aws", kind = "EC2NodeClass", name = name }
            taints       = pool.taints
            expireAfter  = "720h"
            requirements = [
              { key = "node.kubernetes.io/instance-type", operator = "In", values = [pool.machine] },
              { key = "karpenter.sh/capacity-type", operator = "In", values = [for kind in local.bought[name] : local.capacity_types[kind]] },
            ]
          }
        }
      }
    } },
  )
}

resource "aws_iam_instance_profile" "node" {
  name = "${var.cluster_name}-karpenter-node"
  role = var.node_role.name
  tags = var.tags
}

# Managed groups make the access entry of their nodes themselves, with this same role.
resource "aws_eks_access_entry" "node" {
  count         = var.create_access_entry ? 1 : 0
  cluster_name  = var.cluster_name
  principal_arn = var.node_role.arn
  type          = "EC2_LINUX"
  tags          = var.tags
}

resource "aws_iam_role" "karpenter" {
  name = "${var.cluster_name}-karpenter"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = { StringEquals = { "aws:SourceAccount" = local.account }, ArnEquals = { "aws:SourceArn" = var.cluster_arn } }
    }]
  })
  tags = var.tags
}

resource "aws_eks_pod_identity_association" "karpenter" {
  cluster_name    = var.cluster_name
  namespace       = "kube-system"
  service_account = "karpenter"
  role_arn        = aws_iam_role.karpenter.arn
  tags            = var.tags
}

resource "aws_iam_role_policy" "karpenter" {
  # checkov:skip=CKV_AWS_355: EC2's Describe actions and the price list take no resource
  # checkov:skip=CKV_AWS_290: machines are created anywhere, but only with the tag of this cluster
  name = "nodes"
  role = aws_iam_role.karpenter.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Read"
        Effect = "Allow"
        Action = [
          "ec2:DescribeCapacityReservations", "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeInstanceTypeOfferings",
          "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplates", "ec2:DescribeSecurityGroups", "ec2:DescribeSpotPriceHistory",
          "ec2:DescribeSubnets", "ec2:DescribeInstanceStatus", "pricing:GetProducts",
        ]
        Resource = "*"
      },
      { Sid = "Images", Effect = "Allow", Action = "ssm:GetParameter", Resource = "arn:${local.partition}:ssm:${var.region}::parameter/aws/service/*" },
      {
        Sid      = "UseParts"
        Effect   = "Allow"
        Action   = ["ec2:RunInstances", "ec2:CreateFleet"]
        Resource = [for kind in ["image/*", "snapshot/*"] : "arn:${local.partition}:ec2:${var.region}::${kind}"]
      },
      {
        Sid    = "UseOwnParts"
        Effect = "Allow"
        Action = ["ec2:RunInstances", "ec2:CreateFleet"]
        Resource = [
          for kind in ["security-group/${var.security_group_id}", "subnet/*", "capacity-reservation/*", "placement-group/*"] :
          "arn:${local.partition}:ec2:${var.region}:${local.account}:${kind}"
        ]
      },
      {
        Sid       = "UseTemplates"
        Effect    = "Allow"
        Action    = ["ec2:RunInstances", "ec2:CreateFleet"]
        Resource  = "arn:${local.partition}:ec2:${var.region}:${local.account}:launch-template/*"
        Condition = { StringEquals = { "aws:ResourceTag/${local.cluster_tag}" = "owned" } }
      },
      {
        Sid    = "Create"
        Effect = "Allow"
        Action = ["ec2:RunInstances", "ec2:CreateFleet", "ec2:CreateLaunchTemplate"]
        Resource = [
          for kind in ["fleet", "instance", "volume", "network-interface", "launch-template", "spot-instances-request"] :
          "arn:${local.partition}:ec2:${var.region}:${local.account}:${kind}/*"
        ]
        Condition = { StringEquals = { "aws:RequestTag/${local.cluster_tag}" = "owned" } }
      },
      {
        Sid       = "TagAtCreation"
        Effect    = "Allow"
        Action    = "ec2:CreateTags"
        Resource  = "arn:${local.partition}:ec2:${var.region}:${local.account}:*/*"
        Condition = { StringEquals = { "ec2:CreateAction" = ["RunInstances", "CreateFleet", "CreateLaunchTemplate"] } }
      },
      {
        Sid    = "ChangeOwn"
        Effect = "Allow"
        Action = ["ec2:CreateTags", "ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"]
        Resource = [
          for kind in ["instance", "launch-template"] : "arn:${local.partition}:ec2:${var.region}:${local.account}:${kind}/*"
        ]
        Condition = { StringEquals = { "aws:ResourceTag/${local.cluster_tag}" = "owned" } }
      },
      { Sid = "Queue", Effect = "Allow", Action = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"], Resource = aws_sqs_queue.interruption.arn },
      { Sid = "Cluster", Effect = "Allow", Action = "eks:DescribeCluster", Resource = var.cluster_arn },
      { Sid = "Profile", Effect = "Allow", Action = "iam:GetInstanceProfile", Resource = aws_iam_instance_profile.node.arn },
      {
        Sid       = "PassNodeRole"
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = var.node_role.arn
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
      },
    ]
  })
}
