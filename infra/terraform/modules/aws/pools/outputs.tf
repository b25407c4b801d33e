output "karpenter" {
  value       = join("---\n", [for document in local.documents : yamlencode(document)])
  description = "NodePools and EC2NodeClasses, for kubectl apply."
}

output "documents" {
  value       = local.documents
  description = "The same as objects, by name."
}

output "interruption_queue" {
  value       = aws_sqs_queue.interruption.name
  description = "settings.interruptionQueue of Karpenter's chart."
}

output "groups" {
  value       = { for name, group in aws_eks_node_group.pool : name => group.node_group_name }
  description = "Pool -> its managed group."
}
