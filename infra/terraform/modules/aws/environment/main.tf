# Everything for MM1 in an empty account: network, cluster, store, identities and pools.

module "network" {
  source       = "../network"
  name         = var.name
  region       = var.region
  zones        = var.zones
  nat_gateways = var.nat_gateways
  tags         = var.tags
}

module "cluster" {
  source             = "../cluster"
  name               = var.name
  region             = var.region
  kubernetes_version = var.kubernetes_version
  subnets            = module.network.subnets
  public_cidrs       = var.public_cidrs
  admins             = var.admins
  tags               = var.tags
}

module "store" {
  source        = "../store"
  bucket        = var.bucket
  force_destroy = var.force_destroy
  tags          = var.tags
}

module "identity" {
  source       = "../identity"
  cluster_name = module.cluster.name
  cluster_arn  = module.cluster.arn
  namespace    = var.namespace
  bucket       = module.store.bucket
  kms_key_arn  = module.store.kms_key_arn
  prefix       = var.prefix
  model_prefix = var.model_prefix
  data_buckets = var.data_buckets
  tags         = var.tags
}

module "pools" {
  source            = "../pools"
  cluster_name      = module.cluster.name
  cluster_arn       = module.cluster.arn
  region            = var.region
  vpc_id            = module.network.vpc_id
  subnets           = module.network.subnets
  security_group_id = module.cluster.security_group_id
  node_role         = module.cluster.node_role
  environment       = var.environment
  sizes             = var.sizes
  reservations      = var.reservations
  tags              = var.tags
}
