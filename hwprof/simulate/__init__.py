"""How long does a training step take on hardware that is not here? Counted work at predicted rates, in order."""
