"""What is in a Kineto trace? Spans of host and device as columns, what their names say, idle time, collectives."""
