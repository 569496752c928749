"""What a release takes: wheels, their trial where no compiler is, what was installed, and the licences of all dependencies."""
