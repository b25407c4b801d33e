terraform {
  required_version = ">= 1.11, < 2.0"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }
  # The state has the secrets of HMAC keys, if there are any. Its bucket is not part of it: create it once, with versions.
  # terraform init -backend-config=bucket=my-terraform-state
  backend "gcs" {
    prefix = "mm1/gcp-dev"
  }
}

provider "google" {
  project        = var.project
  region         = var.region
  default_labels = { project = "mm1", environment = "dev" }
}
