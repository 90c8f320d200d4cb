from .analysis.embeddings import Embedder as Embedder
from .analysis.face_analyser import FaceAnalyser as FaceAnalyser
from .analysis.face_validation import FaceThresholds as FaceThresholds
from .analysis.quality import QualityAssessment as QualityAssessment
from .analysis.quality import QualityThresholds as QualityThresholds
from .dataset.curated import CuratedDataset as CuratedDataset
from .dataset.exporting import export as export
from .errors import CuratorError as CuratorError
from .evaluation.lora_files import evaluate as evaluate
from .features import FeatureStore as FeatureStore
from .generation.diffusers_backend import DiffusersBackend as DiffusersBackend
from .generation.reproduce import reproduce as reproduce
from .generation.run import generate as generate
from .imageset import ImageSet as ImageSet
from .naming import noise_seed as noise_seed
from .pipeline import curate as curate
from .plan import Plan as Plan
from .plan import Request as Request
from .plan import Scenario as Scenario
from .plan import Subject as Subject
from .rejection_reasons import Rejection as Rejection
from .selection.balance import select as select
from .selection.quotas import Quota as Quota
from .training.job import LoraJob as LoraJob
from .training.settings import TrainingSettings as TrainingSettings
from .training.trainer import train_lora as train_lora

__version__: str
