"""A local page around runs: try them on pictures, compare them, train others, and correct labels. ``descend app`` serves it."""
