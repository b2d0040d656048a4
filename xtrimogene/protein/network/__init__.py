"""The protein language model: a transformer over packed sequences, its size, its folder."""
