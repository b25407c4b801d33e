run "aws" {
  variables {
    cloud            = "aws"
    karpenter_values = { settings = { clusterName = "mm1" } }
  }
  assert {
    condition     = toset(keys(output.charts)) == toset(["argo-workflows", "jobset", "karpenter", "nvidia-device-plugin", "aws-efa-k8s-device-plugin"])
    error_message = "a cluster on AWS needs plugins and Karpenter"
  }
  assert {
    condition     = yamldecode(output.charts["nvidia-device-plugin"].values).tolerations == [{ key = "mm1.dev/pool", operator = "Exists" }]
    error_message = "the plugin runs on tainted nodes"
  }
  assert {
    condition = [for flavor in output.queue["cluster-queue"].spec.resourceGroups[0].flavors : flavor.resources if flavor.name == "train-h100"][0] == [
      { name = "cpu", nominalQuota = "320" }, { name = "memory", nominalQuota = "3200Gi" }, { name = "nvidia.com/gpu", nominalQuota = "16" },
    ]
    error_message = "the quota is that of the nodes"
  }
  assert {
    condition     = !can(output.queue["cluster-queue"].spec.admissionChecksStrategy) && !contains(keys(output.queue), "queued-nodes")
    error_message = "only queued nodes need an admission check"
  }
}

run "gcp_queued" {
  variables {
    cloud        = "gcp"
    queued_pools = ["train-h100"]
  }
  assert {
    condition     = toset(keys(output.charts)) == toset(["argo-workflows", "jobset"])
    error_message = "GKE has its own device plugin and autoscaler"
  }
  assert {
    condition     = output.queue["cluster-queue"].spec.admissionChecksStrategy.admissionChecks[0].onFlavors == ["train-h100"]
    error_message = "queued nodes are requested before the pods start"
  }
}

run "dev_has_no_training" {
  variables {
    cloud       = "aws"
    environment = "dev"
  }
  assert {
    condition     = !contains(keys(output.charts), "aws-efa-k8s-device-plugin") && !contains(keys(output.queue), "flavor-train-h100")
    error_message = "without training nodes there is no EFA"
  }
}

run "unknown_cloud" {
  command = plan
  variables {
    cloud = "azure"
  }
  expect_failures = [var.cloud]
}
