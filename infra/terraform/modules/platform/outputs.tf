output "versions" {
  value       = merge({ for name, chart in module.plan.charts : name => chart.version }, { kueue = helm_release.kueue.version })
  description = "Chart -> its version."
}
