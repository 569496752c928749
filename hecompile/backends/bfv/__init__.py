"""BFV with coefficient encoding: encryption by SEAL, the evaluator is an integer matrix product on ciphertext words."""
