"""Everything that crosses a topic. Bottom layer: imports nothing of ours."""
