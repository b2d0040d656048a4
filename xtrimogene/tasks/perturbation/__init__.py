"""What a perturbation does to expression: measured from cells, predicted for others, and judged beside baselines."""
