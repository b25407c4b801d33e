# The nodes of the table of pools: managed groups for training, Karpenter for everything else.

locals {
  profiles = "${path.module}/../../../../../workflows/mm1_workflows/profiles"
  table    = yamldecode(file(coalesce(var.table, "${local.profiles}/pools.yaml")))
  machines = yamldecode(file("${local.profiles}/machines.yaml"))
  sizes    = merge(try(local.table.environments[var.environment], {}), var.sizes)
  zones    = sort(keys(var.subnets))

  # Every field of a pool's nodes, with the defaults of mm1_components/wrapper/nodes.py.
  pools = { for name, pool in local.table.pools : name => {
    labels      = try(pool.labels, {})
    taints      = [for taint in try(pool.taints, []) : merge({ effect = "NoSchedule" }, taint)]
    machine     = pool.nodes.aws.machine
    provisioner = pool.nodes.aws.provisioner
    capacity    = try(pool.nodes.aws.capacity, ["on-demand"])
    zone        = try(pool.nodes.aws.zone, "") != "" ? pool.nodes.aws.zone : local.zones[0]
    placement   = try(pool.nodes.aws.placement, "none")
    efa         = try(pool.nodes.aws.interfaces.count, 0)
    disk_gib    = try(pool.nodes.aws.disk_gib, 100)
    size        = merge({ min = 0 }, pool.nodes.aws.size, try(local.sizes[name], {}))
    facts       = merge({ gpus = 0, local_disks = 0 }, local.machines[pool.nodes.aws.machine])
  } if can(pool.nodes.aws) }

  managed   = { for name, pool in local.pools : name => pool if pool.provisioner == "managed-group" && pool.size.max > 0 }
  karpenter = { for name, pool in local.pools : name => pool if pool.provisioner == "autoscaler" && pool.size.max > 0 }

  # The first capacity type that the account has: reservations and capacity blocks need an id.
  bought = { for name, pool in local.pools : name => [
    for kind in pool.capacity : kind if !contains(["reservation", "capacity-block"], kind) || try(var.reservations[name].kind, "") == kind
  ] }
}
