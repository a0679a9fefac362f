"""A text shop: products, search, goals, pages, and what a purchase is worth."""
