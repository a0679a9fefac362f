"""How good an agent is: ranking, closed loops, off-policy estimates, intervals."""
