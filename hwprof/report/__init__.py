"""What does a reader see? Results to plain rows, rows to HTML, PNG, CSV and text; renderers do no arithmetic."""
