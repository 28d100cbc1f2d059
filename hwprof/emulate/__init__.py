"""What would somebody's own training script do on hardware that is not here? One rank of many, computing nothing."""
