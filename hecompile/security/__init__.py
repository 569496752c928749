"""How many bits of security lattice parameters have, by hecompile's own table and by estimates."""
