"""Which ops of UNets Concrete ML takes, and what compiling may write in their place: the table of `docs/concrete-ops.md`."""
