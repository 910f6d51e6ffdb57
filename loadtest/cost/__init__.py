"""What a deployment path costs over its whole life: installed, started, idle, loaded, paid for."""
