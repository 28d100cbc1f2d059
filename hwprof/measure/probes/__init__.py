"""What are the ceilings of this device? One probe for each kind of work."""
