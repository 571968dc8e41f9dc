"""What was done to an image that is to be restored, as parts that are given in a list, each in its turn."""

from datamodules.degradations.blur import Blur as Blur
from datamodules.degradations.blur import CameraShake as CameraShake
from datamodules.degradations.blur import GaussianBlur as GaussianBlur
from datamodules.degradations.blur import LevinKernels as LevinKernels
from datamodules.degradations.blur import LinearMotionBlur as LinearMotionBlur
from datamodules.degradations.holes import BoxHoles as BoxHoles
from datamodules.degradations.holes import FreeFormHoles as FreeFormHoles
from datamodules.degradations.holes import MaskFolder as MaskFolder
from datamodules.degradations.jpeg import JPEG as JPEG
from datamodules.degradations.jpeg import Quantize as Quantize
from datamodules.degradations.noise import GaussianNoise as GaussianNoise
from datamodules.degradations.noise import PoissonGaussianNoise as PoissonGaussianNoise
from datamodules.degradations.parts import DegradationChain as DegradationChain
from datamodules.degradations.parts import DegradationPart as DegradationPart
from datamodules.degradations.parts import Degradations as Degradations
from datamodules.degradations.parts import Degraded as Degraded
