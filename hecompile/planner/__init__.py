"""Which layer runs where: candidates, a plan chosen within budgets, and what it will cost. Names no scheme."""
