"""Video object segmentation: objects that are marked in the first frame are followed to the pixel through a video.

A method is one file here and one entry point of the group `visionkit.propagators`; see
`visionkit.families.propagation.propagator`.
"""
