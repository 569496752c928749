"""The planner: it chooses which layer runs where, within budgets, and predicts what a plan costs. It is the same for every
scheme."""
