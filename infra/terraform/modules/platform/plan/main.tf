# What is installed into a cluster, from the table of pools: versions and values of charts, and the queue. It creates nothing.

locals {
  profiles = "${path.module}/../../../../../workflows/mm1_workflows/profiles"
  table    = yamldecode(file(coalesce(var.table, "${local.profiles}/pools.yaml")))
  sizes    = merge(try(local.table.environments[var.environment], {}), var.sizes)

  pools = { for name, pool in local.table.pools : name => merge(pool, {
    max     = merge(pool.nodes[var.cloud].size, try(local.sizes[name], {})).max
    fast    = try(pool.nodes[var.cloud].interfaces.kind, "none")
    devices = try(pool.nodes[var.cloud].devices, "device-plugin")
  }) if can(pool.nodes[var.cloud]) }

  gpus        = { for name, pool in local.pools : name => pool if try(pool.gpus, 0) > 0 && pool.max > 0 }
  plugin      = { for name, pool in local.gpus : name => pool if pool.devices == "device-plugin" }
  tolerations = [for key in distinct(flatten([for pool in local.gpus : [for taint in try(pool.taints, []) : taint.key]])) : { key = key, operator = "Exists" }]
  on_plugin = { nodeAffinity = { requiredDuringSchedulingIgnoredDuringExecution = { nodeSelectorTerms = [
    { matchExpressions = [{ key = "mm1.dev/pool", operator = "In", values = keys(local.plugin) }] }
  ] } } }

  # Of Kubernetes' quantities only the binary ones with a number before them occur in the table.
  memory  = { for name, pool in local.gpus : name => regex("^([0-9]+)([KMGT]i)$", pool.memory) }
  covered = concat(["cpu", "memory", "nvidia.com/gpu"], distinct(flatten([for pool in local.gpus : keys(try(pool.network.resources, {}))])))
  quota = { for name, pool in local.gpus : name => merge(
    { for resource in local.covered : resource => "0" },
    { for resource, amount in try(pool.network.resources, {}) : resource => tostring(tonumber(amount) * pool.max) },
    {
      "cpu"            = tostring(pool.cpus * pool.max)
      "memory"         = "${tonumber(local.memory[name][0]) * pool.max}${local.memory[name][1]}"
      "nvidia.com/gpu" = tostring(pool.gpus * pool.max)
    },
  ) }
  queued = [for name in var.queued_pools : name if contains(keys(local.gpus), name)]

  queue = merge(
    { for name, pool in local.gpus : "flavor-${name}" => {
      apiVersion = "kueue.x-k8s.io/v1beta2", kind = "ResourceFlavor", metadata = { name = name }, spec = { nodeLabels = pool.labels }
    } },
    { cluster-queue = {
      apiVersion = "kueue.x-k8s.io/v1beta2"
      kind       = "ClusterQueue"
      metadata   = { name = "mm1" }
      spec = merge(
        {
          namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = var.namespace } }
          resourceGroups = [{
            coveredResources = local.covered
            flavors = [for name in keys(local.gpus) : {
              name = name, resources = [for resource in local.covered : { name = resource, nominalQuota = local.quota[name][resource] }]
            }]
          }]
        },
        { for field, value in { admissionChecksStrategy = { admissionChecks = [{ name = "queued-nodes", onFlavors = local.queued }] } } : field => value if length(local.queued) > 0 },
      )
    } },
    { for name, document in {
      queued-nodes = {
        apiVersion = "kueue.x-k8s.io/v1beta2", kind = "AdmissionCheck", metadata = { name = "queued-nodes" }
        spec = {
          controllerName = "kueue.x-k8s.io/provisioning-request"
          parameters     = { apiGroup = "kueue.x-k8s.io", kind = "ProvisioningRequestConfig", name = "queued-nodes" }
        }
      }
      queued-nodes-config = {
        apiVersion = "kueue.x-k8s.io/v1beta2", kind = "ProvisioningRequestConfig", metadata = { name = "queued-nodes" }
        spec       = { provisioningClassName = "queued-provisioning.gke.io", managedResources = ["nvidia.com/gpu"] }
      }
    } : name => document if length(local.queued) > 0 },
  )

  # Kind of chart -> where it is, its version and values. Versions are pinned; JobSet's and Kueue's are those of the tests.
  charts = { for name, chart in {
    argo-workflows = {
      repository = "https://argoproj.github.io/argo-helm", version = "2.0.1", namespace = "argo", wanted = true
      values     = { controller = { workflowNamespaces = [var.namespace] } }
    }
    jobset = {
      repository = "oci://registry.k8s.io/jobset/charts", version = "0.12.0", namespace = "jobset-system", wanted = true
      values     = {}
    }
    nvidia-device-plugin = { # GKE has its own
      repository = "https://nvidia.github.io/k8s-device-plugin", version = "0.18.2", namespace = "kube-system"
      wanted     = var.cloud == "aws" && length(local.plugin) > 0
      values     = { tolerations = local.tolerations, affinity = local.on_plugin }
    }
    aws-efa-k8s-device-plugin = {
      repository = "https://aws.github.io/eks-charts", version = "0.5.10", namespace = "kube-system"
      wanted     = contains([for pool in local.gpus : pool.fast], "efa")
      values     = { tolerations = local.tolerations }
    }
    nvidia-dra-driver-gpu = {
      repository = "https://helm.ngc.nvidia.com/nvidia", version = var.dra_version, namespace = "nvidia-dra-driver-gpu"
      wanted     = length(local.plugin) < length(local.gpus)
      values     = {}
    }
    karpenter = {
      repository = "oci://public.ecr.aws/karpenter", version = "1.8.1", namespace = "kube-system"
      wanted     = var.cloud == "aws"
      values     = var.karpenter_values
    }
  } : name => { repository = chart.repository, version = chart.version, namespace = chart.namespace, values = yamlencode(chart.values) } if chart.wanted }

  values = merge({ queue = { name = "mm1", clusterQueue = "mm1" } }, var.profile == "" ? {} : { profile = var.profile })
}
