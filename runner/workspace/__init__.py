"""Acts on the outside of a run: commands and their processes, the work tree and its snapshots."""
