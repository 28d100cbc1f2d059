"""What does the device really do? Timing seam, probes, step recorder, telemetry."""
