# MM1 on an EKS cluster that exists: store, identities and pools, and nothing that belongs to the cluster itself.

data "aws_eks_cluster" "this" {
  name = var.cluster_name
}

module "store" {
  source        = "../store"
  bucket        = var.bucket
  force_destroy = var.force_destroy
  tags          = var.tags
}

module "identity" {
  source       = "../identity"
  cluster_name = var.cluster_name
  cluster_arn  = data.aws_eks_cluster.this.arn
  namespace    = var.namespace
  bucket       = module.store.bucket
  kms_key_arn  = module.store.kms_key_arn
  prefix       = var.prefix
  model_prefix = var.model_prefix
  data_buckets = var.data_buckets
  tags         = var.tags
}

module "pools" {
  source              = "../pools"
  cluster_name        = var.cluster_name
  cluster_arn         = data.aws_eks_cluster.this.arn
  region              = var.region
  vpc_id              = data.aws_eks_cluster.this.vpc_config[0].vpc_id
  subnets             = var.subnets
  security_group_id   = data.aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  node_role           = var.node_role
  create_access_entry = var.create_access_entry
  environment         = var.environment
  sizes               = var.sizes
  reservations        = var.reservations
  tags                = var.tags
}
