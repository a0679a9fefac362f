"""A language model as the user: what it says of items, and how far to trust it."""
