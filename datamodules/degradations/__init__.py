"""What was done to an image that is to be restored, as parts that are given in a list, each in its turn."""

from datamodules.degradations.noise import GaussianNoise as GaussianNoise
from datamodules.degradations.noise import PoissonGaussianNoise as PoissonGaussianNoise
from datamodules.degradations.parts import DegradationChain as DegradationChain
from datamodules.degradations.parts import DegradationPart as DegradationPart
from datamodules.degradations.parts import Degraded as Degraded
