output "roles" {
  value       = { for account, role in aws_iam_role.account : account => role.arn }
  description = "Account of the chart -> ARN of its role."
}
