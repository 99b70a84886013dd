"""How the members and tiers of a request come to one answer: one module a strategy."""
