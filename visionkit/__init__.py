"""visionkit: train, test, export and serve vision models on any timm backbone."""
