"""What does a running server give its users? Requests over the OpenAI protocol, timed token by token; no torch."""
