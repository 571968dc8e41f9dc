"""Face recognition: verification and identification of persons who were in no training set."""

from tasks.face_recognition.task import FaceRecognitionTask

__all__ = ["FaceRecognitionTask"]
