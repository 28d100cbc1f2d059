"""Where do live metrics go? One small module for each place; each has ``log(metrics, step)`` and ``close()``."""
