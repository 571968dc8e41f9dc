"""The pages of the demo: one for all models, one for each task, and those for comparing, many images and videos."""
