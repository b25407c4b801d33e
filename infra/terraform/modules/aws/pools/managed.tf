# Groups of a static size in one zone: a training needs all of its nodes, next to each other, or none.

locals {
  effects    = { NoSchedule = "NO_SCHEDULE", PreferNoSchedule = "PREFER_NO_SCHEDULE", NoExecute = "NO_EXECUTE" }
  boot_disk  = "/dev/xvda"
  efa_groups = { for name, pool in local.managed : name => pool if pool.efa > 0 }

  # A RAID 0 of the local disks holds /tmp of the pods, images and logs.
  local_disks = <<-EOT
    MIME-Version: 1.0
    Content-Type: multipart/mixed; boundary="mm1"

    --mm1
    Content-Type: application/node.eks.aws

    apiVersion: node.eks.aws/v1alpha1
    kind: NodeConfig
    spec:
      instance:
        localStorage:
          strategy: RAID0

    --mm1--
  EOT
}

resource "aws_placement_group" "pool" {
  for_each = { for name, pool in local.managed : name => pool if pool.placement == "compact" }
  name     = "${var.cluster_name}-${each.key}"
  strategy = "cluster"
  tags     = var.tags
}

# EFA needs all traffic between its interfaces to be allowed, in both directions.
resource "aws_security_group" "efa" {
  # checkov:skip=CKV2_AWS_5: the interfaces of the launch template have it
  for_each    = length(local.efa_groups) > 0 ? toset(["efa"]) : toset([])
  name_prefix = "${var.cluster_name}-efa-"
  description = "Traffic between the EFA interfaces of ${var.cluster_name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.cluster_name}-efa" })
}

resource "aws_vpc_security_group_ingress_rule" "efa" {
  for_each                     = aws_security_group.efa
  security_group_id            = each.value.id
  referenced_security_group_id = each.value.id
  description                  = "From EFA interfaces"
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "efa" {
  for_each                     = aws_security_group.efa
  security_group_id            = each.value.id
  referenced_security_group_id = each.value.id
  description                  = "To EFA interfaces"
  ip_protocol                  = "-1"
}

resource "aws_launch_template" "pool" {
  for_each               = local.managed
  name_prefix            = "${var.cluster_name}-${each.key}-"
  instance_type          = each.value.machine
  user_data              = each.value.facts.local_disks > 0 ? base64encode(local.local_disks) : null
  update_default_version = true
  # Interfaces have their own security groups.
  vpc_security_group_ids = each.value.efa > 0 ? null : [var.security_group_id]
  tags                   = var.tags

  # EFA on every network card. Only the first interface carries IP: the others take no addresses of the subnet.
  dynamic "network_interfaces" {
    for_each = range(each.value.efa)
    content {
      network_card_index    = network_interfaces.value
      device_index          = network_interfaces.value == 0 ? 0 : 1
      interface_type        = network_interfaces.value == 0 ? "efa" : "efa-only"
      security_groups       = [var.security_group_id, aws_security_group.efa["efa"].id]
      delete_on_termination = true
    }
  }

  dynamic "placement" {
    for_each = each.value.placement == "compact" ? [aws_placement_group.pool[each.key].name] : []
    content {
      group_name = placement.value
    }
  }

  dynamic "capacity_reservation_specification" {
    for_each = contains(["reservation", "capacity-block"], local.bought[each.key][0]) ? [var.reservations[each.key].id] : []
    content {
      capacity_reservation_target {
        capacity_reservation_id = capacity_reservation_specification.value
      }
    }
  }

  dynamic "instance_market_options" {
    for_each = local.bought[each.key][0] == "capacity-block" ? ["capacity-block"] : []
    content {
      market_type = instance_market_options.value
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = local.boot_disk
    ebs {
      volume_size = each.value.disk_gib
      volume_type = "gp3"
      encrypted   = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = merge(var.tags, { Name = "${var.cluster_name}-${each.key}" })
  }

  lifecycle {
    precondition {
      condition     = contains(keys(var.subnets), each.value.zone)
      error_message = "pools.${each.key}: zone ${each.value.zone} has no subnet; there are ${join(", ", local.zones)}."
    }
    precondition {
      condition     = each.value.efa == try(each.value.facts.interfaces.count, 0) || each.value.efa == 0
      error_message = "pools.${each.key}: ${each.value.machine} takes ${try(each.value.facts.interfaces.count, 0)} EFA interfaces, got ${each.value.efa}."
    }
    precondition {
      condition     = length(local.bought[each.key]) > 0
      error_message = "pools.${each.key}: set reservations.${each.key}, or add on-demand to its capacity."
    }
  }
}

resource "aws_eks_node_group" "pool" {
  for_each        = local.managed
  cluster_name    = var.cluster_name
  node_group_name = each.key
  node_role_arn   = var.node_role.arn
  subnet_ids      = [var.subnets[each.value.zone]]
  ami_type        = each.value.facts.gpus > 0 ? "AL2023_x86_64_NVIDIA" : "AL2023_x86_64_STANDARD"
  capacity_type   = lookup({ capacity-block = "CAPACITY_BLOCK", spot = "SPOT" }, local.bought[each.key][0], "ON_DEMAND")
  labels          = each.value.labels
  tags            = var.tags

  scaling_config {
    min_size     = each.value.size.max
    max_size     = each.value.size.max
    desired_size = each.value.size.max
  }
  update_config {
    max_unavailable = 1
  }
  launch_template {
    id      = aws_launch_template.pool[each.key].id
    version = aws_launch_template.pool[each.key].latest_version
  }
  dynamic "taint" {
    for_each = each.value.taints
    content {
      key    = taint.value.key
      value  = try(taint.value.value, null)
      effect = local.effects[taint.value.effect]
    }
  }
}
