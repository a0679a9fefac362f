"""Results that anyone can recompute: submissions, what verifies them, tables."""
