"""How the loss of a protein language model falls with compute, parameters and tokens."""
