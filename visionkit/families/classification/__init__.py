"""What classifiers share: how their errors are analyzed."""
