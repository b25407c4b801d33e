output "name" {
  value       = aws_eks_cluster.this.name
  description = "Name of the cluster."
}

output "arn" {
  value       = aws_eks_cluster.this.arn
  description = "ARN of the cluster."
}

output "endpoint" {
  value       = aws_eks_cluster.this.endpoint
  description = "Address of the API."
}

output "certificate_authority" {
  value       = aws_eks_cluster.this.certificate_authority[0].data
  description = "Certificate of the API, in base64."
}

output "security_group_id" {
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  description = "Security group of the cluster and its nodes."
}

output "node_role" {
  value       = { name = aws_iam_role.node.name, arn = aws_iam_role.node.arn }
  description = "Role of the nodes."
}
