from .checklist import Fault as Fault
from .checklist import Line as Line
from .checklist import Readiness as Readiness
from .checklist import Status as Status
from .readiness import check_readiness as check_readiness
from .readiness import write_readiness as write_readiness
from .sign_off import sign as sign
