"""Face recognition: verification and identification of people who were in no training set.

Nothing is imported here: the gallery is listed, and its enrolments are made, without torch.
"""
