"""The verbs of the `visionkit` command, one module per verb."""
