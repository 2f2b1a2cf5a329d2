"""The trained policies that ship with Tongs: one folder each, with config, weights, statistics and model card."""
