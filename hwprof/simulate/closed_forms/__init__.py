"""How long does a pipeline take, without simulating it? One form for each schedule."""
