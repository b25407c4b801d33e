# What a cluster needs before this project's chart, and that chart, on both clouds. Order: JobSet, Kueue, objects of the cluster, mm1.

module "plan" {
  source           = "./plan"
  cloud            = var.cloud
  environment      = var.environment
  sizes            = var.sizes
  namespace        = var.namespace
  profile          = var.profile
  queued_pools     = var.queued_pools
  karpenter_values = var.karpenter_values
  dra_version      = var.dra_version
}

resource "helm_release" "chart" {
  for_each         = module.plan.charts
  name             = each.key
  chart            = each.key
  repository       = each.value.repository
  version          = each.value.version
  namespace        = each.value.namespace
  create_namespace = true
  atomic           = true
  timeout          = 900
  values           = [each.value.values]
}

resource "helm_release" "kueue" {
  name             = "kueue"
  chart            = "kueue"
  repository       = "oci://registry.k8s.io/kueue/charts"
  version          = "0.19.2"
  namespace        = "kueue-system"
  create_namespace = true
  atomic           = true
  timeout          = 900
  depends_on       = [helm_release.chart] # its JobSet integration needs JobSet's kinds
}

# Objects of kinds that the charts above bring; the kubernetes provider would need them when it plans.
resource "helm_release" "objects" {
  name       = "mm1-objects"
  chart      = "${path.module}/objects"
  namespace  = "kueue-system"
  atomic     = true
  values     = [yamlencode({ objects = values(merge(module.plan.queue, var.documents)) })]
  depends_on = [helm_release.kueue]
}

resource "helm_release" "mm1" {
  name             = "mm1"
  chart            = "${path.module}/../../../../charts/mm1"
  namespace        = var.namespace
  create_namespace = true
  timeout          = 900
  wait             = false # the served model is not ready before the first promotion
  values           = [yamlencode(var.chart_values), yamlencode(module.plan.values), yamlencode(var.site_values)]
  depends_on       = [helm_release.objects]
}
