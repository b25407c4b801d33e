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
}

variables {
  cluster_name      = "mm1"
  cluster_arn       = "arn:aws:eks:us-east-1:111122223333:cluster/mm1"
  region            = "us-east-1"
  vpc_id            = "vpc-0123"
  subnets           = { a = "subnet-a", b = "subnet-b" }
  security_group_id = "sg-cluster"
  node_role         = { name = "mm1-node", arn = "arn:aws:iam::111122223333:role/mm1-node" }
}

run "training" {
  assert {
    condition     = keys(aws_eks_node_group.pool) == ["train-h100"] && aws_eks_node_group.pool["train-h100"].labels == tomap({ "mm1.dev/pool" = "train-h100" })
    error_message = "one managed group, with the label of its pool"
  }
  assert {
    condition = [for taint in aws_eks_node_group.pool["train-h100"].taint : "${taint.key}=${taint.value}:${taint.effect}"] == [
      "mm1.dev/pool=train-h100:NO_SCHEDULE"
    ]
    error_message = "the taint of the pool"
  }
  assert {
    condition     = one(aws_eks_node_group.pool["train-h100"].scaling_config) == { min_size = 2, max_size = 2, desired_size = 2 }
    error_message = "a static size"
  }
  assert {
    condition     = aws_eks_node_group.pool["train-h100"].subnet_ids == toset(["subnet-a"])
    error_message = "one zone: the first"
  }
  assert {
    condition     = aws_eks_node_group.pool["train-h100"].ami_type == "AL2023_x86_64_NVIDIA" && aws_launch_template.pool["train-h100"].instance_type == "p5.48xlarge"
    error_message = "the machine of the table, with an image that has the driver"
  }
  assert {
    condition = [for item in aws_launch_template.pool["train-h100"].network_interfaces : "${item.network_card_index}/${item.device_index}/${item.interface_type}"] == concat(
      ["0/0/efa"], [for card in range(1, 32) : "${card}/1/efa-only"]
    )
    error_message = "EFA on each of the 32 network cards"
  }
  assert {
    condition     = aws_placement_group.pool["train-h100"].strategy == "cluster" && aws_launch_template.pool["train-h100"].placement[0].group_name == "mm1-train-h100"
    error_message = "machines next to each other"
  }
  assert {
    condition     = aws_launch_template.pool["train-h100"].metadata_options[0].http_tokens == "required" && aws_launch_template.pool["train-h100"].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "pods cannot use the identity of their node"
  }
  assert {
    condition     = aws_launch_template.pool["train-h100"].block_device_mappings[0].ebs[0].encrypted == "true" && strcontains(base64decode(aws_launch_template.pool["train-h100"].user_data), "strategy: RAID0")
    error_message = "encrypted boot disk, scratch on the local disks"
  }
  assert {
    condition     = aws_eks_node_group.pool["train-h100"].capacity_type == "ON_DEMAND" && length(aws_launch_template.pool["train-h100"].capacity_reservation_specification) == 0
    error_message = "on demand without a reservation"
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.efa["efa"].referenced_security_group_id == aws_security_group.efa["efa"].id
    error_message = "EFA interfaces reach each other, and only them"
  }
}

run "karpenter" {
  assert {
    condition = toset(keys(output.documents)) == toset([
      "cpu-ec2nodeclass", "cpu-nodepool", "eval-l40s-ec2nodeclass", "eval-l40s-nodepool", "serve-l40s-ec2nodeclass", "serve-l40s-nodepool",
    ])
    error_message = "all other pools are Karpenter's"
  }
  assert {
    condition = output.documents["eval-l40s-nodepool"].spec.template.spec.taints[0] == {
      key = "mm1.dev/pool", value = "eval-l40s", effect = "NoSchedule"
    } && output.documents["eval-l40s-nodepool"].spec.template.metadata.labels["mm1.dev/pool"] == "eval-l40s"
    error_message = "label and taint of the pool"
  }
  assert {
    condition     = output.documents["eval-l40s-nodepool"].spec.template.spec.requirements[1].values == ["spot", "on-demand"] && output.documents["serve-l40s-nodepool"].spec.template.spec.requirements[1].values == ["on-demand"]
    error_message = "evaluation on spot first, serving on demand"
  }
  assert {
    condition     = output.documents["eval-l40s-nodepool"].spec.limits == { cpu = "64", "nvidia.com/gpu" = "4" } && output.documents["cpu-nodepool"].spec.limits == { cpu = "80" }
    error_message = "at most the size of the table"
  }
  assert {
    condition = alltrue([for name in ["cpu", "eval-l40s", "serve-l40s"] : output.documents["${name}-ec2nodeclass"].spec.metadataOptions == {
      httpEndpoint = "enabled", httpTokens = "required", httpPutResponseHopLimit = 1
    } && output.documents["${name}-ec2nodeclass"].spec.blockDeviceMappings[0].ebs.encrypted])
    error_message = "IMDSv2 with one hop, encrypted disks"
  }
  assert {
    condition     = output.documents["eval-l40s-ec2nodeclass"].spec.instanceStorePolicy == "RAID0" && !can(output.documents["cpu-ec2nodeclass"].spec.instanceStorePolicy)
    error_message = "scratch on local disks where there are any"
  }
  assert {
    condition     = length(aws_cloudwatch_event_target.interruption) == 5 && aws_sqs_queue.interruption.sqs_managed_sse_enabled
    error_message = "every kind of notice reaches the encrypted queue"
  }
  assert {
    condition = alltrue([for item in jsondecode(aws_iam_role_policy.karpenter.policy).Statement : item.Sid == "Read" || (
      item.Resource != "*" && alltrue([for action in flatten([item.Action]) : !strcontains(action, "*")])
    )])
    error_message = "only reading is allowed everywhere"
  }
  assert {
    condition = alltrue([for item in jsondecode(aws_iam_role_policy.karpenter.policy).Statement :
      contains(flatten([item.Action]), "ec2:TerminateInstances") ? item.Condition.StringEquals["aws:ResourceTag/kubernetes.io/cluster/mm1"] == "owned" : true
    ])
    error_message = "only machines of this cluster are terminated"
  }
}

run "capacity_block" {
  variables {
    reservations = { train-h100 = { kind = "capacity-block", id = "cr-0123" } }
  }
  assert {
    condition     = aws_eks_node_group.pool["train-h100"].capacity_type == "CAPACITY_BLOCK" && aws_launch_template.pool["train-h100"].instance_market_options[0].market_type == "capacity-block"
    error_message = "machines of the capacity block"
  }
  assert {
    condition     = aws_launch_template.pool["train-h100"].capacity_reservation_specification[0].capacity_reservation_target[0].capacity_reservation_id == "cr-0123"
    error_message = "of the block that was bought"
  }
}

run "development" {
  variables {
    environment = "dev"
  }
  assert {
    condition     = length(aws_eks_node_group.pool) == 0 && length(aws_security_group.efa) == 0 && output.documents["eval-l40s-nodepool"].spec.limits["nvidia.com/gpu"] == "1"
    error_message = "the sizes of the environment"
  }
}

run "sizes_of_a_site" {
  variables {
    environment = "dev"
    sizes       = { train-h100 = { max = 4 }, serve-l40s = { max = 0 } }
  }
  assert {
    condition     = one(aws_eks_node_group.pool["train-h100"].scaling_config) == { min_size = 4, max_size = 4, desired_size = 4 } && !can(output.documents["serve-l40s-nodepool"])
    error_message = "a site's sizes win"
  }
}

run "unknown_kind" {
  command = plan
  variables {
    reservations = { train-h100 = { kind = "block", id = "cr-0123" } }
  }
  expect_failures = [var.reservations]
}
