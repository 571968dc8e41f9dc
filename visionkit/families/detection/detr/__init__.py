"""Detectors with queries in place of anchors (DETR): hybrid encoder, deformable decoders, matching and losses.

RT-DETRv2 (Lv et al., 2024, arXiv 2407.17140) and D-FINE (Peng et al., 2024, arXiv 2410.13842) are built from these
parts; other tasks may put heads on the queries.
"""
