"""What may be left in clear at a bounded cost: importance of entries, exact selection within a budget, and what it leaks."""
