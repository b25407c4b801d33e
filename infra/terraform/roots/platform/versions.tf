terraform {
  required_version = ">= 1.11, < 2.0"
  required_providers {
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.0"
    }
  }
}

# Credentials come from the kubeconfig that the cloud's command line writes, so none are in the state.
provider "helm" {
  kubernetes = {
    config_path    = var.kubeconfig
    config_context = var.context
  }
}
