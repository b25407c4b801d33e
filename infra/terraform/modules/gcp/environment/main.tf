# Everything for MM1 in a project: network, cluster, store, identities and node pools.

locals {
  interfaces = { for name, pool in module.table.pools : name => pool.interfaces }
  zones      = { for name, pool in module.table.pools : name => pool.zone }
}

module "table" {
  source       = "../table"
  zones        = var.zones
  environment  = var.environment
  sizes        = var.sizes
  reservations = var.reservations
}

module "network" {
  source     = "../network"
  name       = var.name
  project    = var.project
  region     = var.region
  nat        = var.nat
  interfaces = local.interfaces
  zones      = local.zones
}

module "cluster" {
  source              = "../cluster"
  name                = var.name
  project             = var.project
  region              = var.region
  zones               = var.zones
  network             = module.network.network
  subnetwork          = module.network.subnetwork
  admin_ranges        = var.admin_ranges
  release_channel     = var.release_channel
  deletion_protection = !var.force_destroy
  labels              = var.labels
}

module "store" {
  source        = "../store"
  project       = var.project
  region        = var.region
  bucket        = var.bucket
  force_destroy = var.force_destroy
  labels        = var.labels
}

module "identity" {
  source        = "../identity"
  name          = var.name
  project       = var.project
  workload_pool = module.cluster.workload_pool
  namespace     = var.namespace
  bucket        = module.store.bucket
  prefix        = var.prefix
  model_prefix  = var.model_prefix
  data_buckets  = var.data_buckets
  hmac          = var.hmac
}

module "pools" {
  source             = "../pools"
  cluster            = module.cluster.id
  region             = var.region
  groups             = module.table.groups
  fast               = module.network.fast
  node_account       = module.cluster.node_account
  placement_policies = var.placement_policies
  reservations       = var.reservations
  labels             = var.labels
}
