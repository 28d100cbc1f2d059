"""How does a Chrome trace become columns? As a stream: cut, decoded, numbered."""
