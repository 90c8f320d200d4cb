from .checksums import Verification as Verification
from .checksums import verify as verify
from .curated import CuratedDataset as CuratedDataset
from .curated import collate as collate
from .exporting import Exported as Exported
from .exporting import export as export
