"""For how long does a training really run? What failures, checkpoints and restarts make of the sum of its steps."""
