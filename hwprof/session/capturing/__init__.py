"""How is a model that nobody described captured? Passes of transformers' own class, and what their parts are called."""
