# The table of pools for Google Cloud, with the defaults of mm1_components/wrapper/nodes.py. It creates nothing.

locals {
  profiles = "${path.module}/../../../../../workflows/mm1_workflows/profiles"
  table    = yamldecode(file(coalesce(var.table, "${local.profiles}/pools.yaml")))
  machines = yamldecode(file("${local.profiles}/machines.yaml"))
  sizes    = merge(try(local.table.environments[var.environment], {}), var.sizes)

  # Google's names of GPUs, and of the zone's letter.
  accelerators = { h100 = "nvidia-h100-80gb", h200 = "nvidia-h200-141gb", a100 = "nvidia-tesla-a100", l4 = "nvidia-l4" }

  pools = { for name, pool in local.table.pools : name => {
    labels      = try(pool.labels, {})
    taints      = [for taint in try(pool.taints, []) : merge({ effect = "NoSchedule" }, taint)]
    machine     = pool.nodes.gcp.machine
    provisioner = pool.nodes.gcp.provisioner
    capacity = [
      for kind in try(pool.nodes.gcp.capacity, ["on-demand"]) : kind if kind != "reservation" || contains(keys(var.reservations), name)
    ]
    zone       = try(pool.nodes.gcp.zone, "") != "" ? pool.nodes.gcp.zone : var.zones[0]
    placement  = try(pool.nodes.gcp.placement, "none")
    interfaces = merge({ kind = "none", count = 0 }, try(pool.nodes.gcp.interfaces, {}))
    devices    = try(pool.nodes.gcp.devices, "device-plugin")
    disk_gib   = try(pool.nodes.gcp.disk_gib, 100)
    size       = merge({ min = 0 }, pool.nodes.gcp.size, try(local.sizes[name], {}))
    facts      = merge({ gpus = 0, local_disks = 0 }, local.machines[pool.nodes.gcp.machine])
    gpu        = try(local.accelerators[coalesce(try(pool.nodes.gcp.gpu, ""), try(pool.gpu, ""))], "")
    task       = { cpus = try(pool.cpus, 1), memory = try(pool.memory, "2Gi"), gpus = try(pool.gpus, 0) }
  } if can(pool.nodes.gcp) }

  used = { for name, pool in local.pools : name => pool if pool.size.max > 0 }

  # A managed group has the first capacity type that there is; the autoscaler has one group of each type and takes the cheapest.
  groups = merge([for name, pool in local.used : {
    for kind in(pool.provisioner == "managed-group" ? slice(pool.capacity, 0, 1) : pool.capacity) :
    (length(pool.capacity) == 1 || pool.provisioner == "managed-group" ? name : "${name}-${kind}") => merge(pool, { pool = name, kind = kind })
  }]...)
}
