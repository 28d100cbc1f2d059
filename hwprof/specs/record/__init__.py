"""What does hwprof write down? The versioned schema of every record and JSON."""
