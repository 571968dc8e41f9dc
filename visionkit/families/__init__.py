"""What several tasks share: heads, decoders, matching and metrics of one family of tasks."""
