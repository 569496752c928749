"""BFV with coefficient encoding: exact integer layers, encrypted and multiplied by the native core."""
