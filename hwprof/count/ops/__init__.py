"""What does one operation cost, keep and update? The op table."""
