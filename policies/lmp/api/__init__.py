"""What programs may call: perception, motion, geometry, speech; plain functions with typed arguments."""
