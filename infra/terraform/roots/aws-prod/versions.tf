terraform {
  required_version = ">= 1.11, < 2.0"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
  # The state has the cluster's address and names, no keys. Its bucket is not part of it: create it once, with versions.
  # terraform init -backend-config=bucket=my-terraform-state -backend-config=region=us-east-1
  backend "s3" {
    key          = "mm1/aws-prod.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "mm1", environment = "prod" }
  }
}
