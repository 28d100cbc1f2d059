"""How is each kind of result kept as files? Each complete or absent."""
