"""Augmentation of training samples: parts with torchvision v2's names, and a preset of them per kind of data."""

from datamodules.augmentation.geometric import LargeScaleJitter as LargeScaleJitter
from datamodules.augmentation.geometric import RandomAffine as RandomAffine
from datamodules.augmentation.geometric import RandomCrop as RandomCrop
from datamodules.augmentation.geometric import RandomHalfBody as RandomHalfBody
from datamodules.augmentation.geometric import RandomHorizontalFlip as RandomHorizontalFlip
from datamodules.augmentation.geometric import RandomQuarterTurn as RandomQuarterTurn
from datamodules.augmentation.geometric import RandomResizedCrop as RandomResizedCrop
from datamodules.augmentation.geometric import SanitizeBoundingBoxes as SanitizeBoundingBoxes
from datamodules.augmentation.geometric import ScaleJitter as ScaleJitter
from datamodules.augmentation.library import AlbumentationsAugment as AlbumentationsAugment
from datamodules.augmentation.library import AutoAugment as AutoAugment
from datamodules.augmentation.library import RandAugment as RandAugment
from datamodules.augmentation.library import TrivialAugmentWide as TrivialAugmentWide
from datamodules.augmentation.mixing import CopyPaste as CopyPaste
from datamodules.augmentation.mixing import MixUp as MixUp
from datamodules.augmentation.mixing import Mosaic as Mosaic
from datamodules.augmentation.photometric import ColorJitter as ColorJitter
from datamodules.augmentation.photometric import CutOut as CutOut
from datamodules.augmentation.photometric import RandomErasing as RandomErasing
from datamodules.augmentation.photometric import RandomLight as RandomLight
from datamodules.augmentation.presets import ClassificationAugment as ClassificationAugment
from datamodules.augmentation.presets import DenseAugment as DenseAugment
from datamodules.augmentation.presets import FaceAugment as FaceAugment
from datamodules.augmentation.presets import ObjectAugment as ObjectAugment
from datamodules.augmentation.presets import PoseAugment as PoseAugment
from visionkit.augmentation import Compose as Compose
