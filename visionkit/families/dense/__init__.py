"""Dense prediction: decoders over a feature pyramid, and label maps."""
