run "own_sizes" {
  assert {
    condition     = output.groups["train-h100"].kind == "flex-start" && output.groups["train-h100"].gpu == "nvidia-h100-80gb"
    error_message = "without a reservation, training nodes are queued for"
  }
  assert {
    condition     = output.groups["train-h100"].interfaces == { kind = "tcpx", count = 4 }
    error_message = "the interfaces are those of the table"
  }
  assert {
    condition     = toset(keys(output.groups)) == toset(["cpu", "train-h100", "eval-l40s-spot", "eval-l40s-on-demand", "serve-l40s"])
    error_message = "autoscaled pools have a group per capacity type"
  }
  assert {
    condition     = output.groups["eval-l40s-spot"].gpu == "nvidia-l4" && output.groups["eval-l40s-spot"].labels == { "mm1.dev/pool" = "eval-l40s" }
    error_message = "a cloud without L40S offers L4 under the pool's labels"
  }
}

run "reservation" {
  variables {
    reservations = { train-h100 = "block-1" }
  }
  assert {
    condition     = output.groups["train-h100"].kind == "reservation"
    error_message = "a reservation comes first"
  }
}

run "environment_without_training" {
  variables {
    environment = "dev"
  }
  assert {
    condition     = !contains(keys(output.pools), "train-h100") && output.pools["cpu"].size == { min = 0, max = 4 }
    error_message = "sizes of an environment replace those of the pool"
  }
}

run "sizes_of_a_root" {
  variables {
    environment = "dev"
    sizes       = { train-h100 = { min = 1, max = 1 } }
  }
  assert {
    condition     = output.pools["train-h100"].size == { min = 1, max = 1 }
    error_message = "the root's sizes replace those of the environment"
  }
}
