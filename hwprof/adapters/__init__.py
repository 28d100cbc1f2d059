"""How does hwprof meet the libraries that people train with? One small module for each."""
