# Networks for traffic between GPUs, next to the node's own: one per interface for GPUDirect-TCPX (4) and -TCPXO (8); for RDMA one
# network of ordinary cards and one of RDMA cards, which has a subnet per interface and a profile instead of firewall rules.

locals {
  jumbo = 8244 # MTU that Google's guide to GPUDirect sets

  separate = merge([for pool, interfaces in var.interfaces : {
    for index in range(interfaces.count) : "${pool}-${index}" => { pool = pool, index = index }
  } if contains(["tcpx", "tcpxo"], interfaces.kind)]...)
  rdma         = { for pool, interfaces in var.interfaces : pool => interfaces if interfaces.kind == "rdma" }
  rdma_subnets = merge([for pool, interfaces in local.rdma : { for index in range(interfaces.count) : "${pool}-${index}" => { pool = pool, index = index } }]...)
  plain        = merge(local.separate, { for pool in keys(local.rdma) : "${pool}-gvnic" => { pool = pool, index = 0 } })
  numbers      = { for number, name in concat(sort(keys(local.plain)), sort(keys(local.rdma_subnets))) : name => number }

  # The order is that of the interfaces.
  fast = { for pool, interfaces in var.interfaces : pool => concat(
    [for name in(contains(keys(local.rdma), pool) ? ["${pool}-gvnic"] : [for index in range(interfaces.count) : "${pool}-${index}"]) :
      { network = google_compute_network.fast[name].name, subnetwork = google_compute_subnetwork.fast[name].name, object = name, kind = "NetDevice" }
    ],
    [for index in range(contains(keys(local.rdma), pool) ? interfaces.count : 0) :
      { network = google_compute_network.rdma[pool].name, subnetwork = google_compute_subnetwork.rdma["${pool}-${index}"].name, object = "${pool}-${index}", kind = "RDMA" }
    ],
  ) if interfaces.kind != "none" }
}

resource "google_compute_network" "fast" {
  # checkov:skip=CKV2_GCP_18: the firewall rule is below, by the same keys
  for_each                = local.plain
  name                    = "${var.name}-${each.key}"
  project                 = var.project
  auto_create_subnetworks = false
  mtu                     = local.jumbo
}

resource "google_compute_subnetwork" "fast" {
  # checkov:skip=CKV_GCP_26: flow logs would sample the traffic of collectives
  for_each                 = local.plain
  name                     = "${var.name}-${each.key}"
  project                  = var.project
  region                   = var.region
  network                  = google_compute_network.fast[each.key].id
  ip_cidr_range            = cidrsubnet(var.fast_cidr, 8, local.numbers[each.key])
  private_ip_google_access = true
}

resource "google_compute_firewall" "fast" {
  for_each      = local.plain
  name          = "${var.name}-${each.key}-gpus"
  project       = var.project
  network       = google_compute_network.fast[each.key].name
  direction     = "INGRESS"
  source_ranges = [google_compute_subnetwork.fast[each.key].ip_cidr_range]
  allow { protocol = "tcp" }
  allow { protocol = "udp" }
  allow { protocol = "icmp" }
}

resource "google_compute_network" "rdma" {
  # checkov:skip=CKV2_GCP_18: networks with a RoCE profile have no firewall rules
  for_each                = local.rdma
  name                    = "${var.name}-${each.key}-rdma"
  project                 = var.project
  auto_create_subnetworks = false
  network_profile         = "projects/${var.project}/global/networkProfiles/${var.region}-${var.zones[each.key]}-vpc-roce"
}

resource "google_compute_subnetwork" "rdma" {
  # checkov:skip=CKV_GCP_26: RDMA traffic has no flow logs
  # checkov:skip=CKV_GCP_74: GPUs reach no Google API over RDMA
  for_each      = local.rdma_subnets
  name          = "${var.name}-${each.key}-rdma"
  project       = var.project
  region        = var.region
  network       = google_compute_network.rdma[each.value.pool].id
  ip_cidr_range = cidrsubnet(var.fast_cidr, 8, local.numbers[each.key])
}
