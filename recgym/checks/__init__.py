"""The contracts of environments, datasets and agents, as checks that whoever writes one can run.

Each check is a function whose first line says what holds where it passes. One that fails says what
happened, what was found and what to do.
"""

from recgym.checks.agents import check_agent
from recgym.checks.datasets import check_dataset
from recgym.checks.environments import check_env, check_vector_env

__all__ = ["check_agent", "check_dataset", "check_env", "check_vector_env"]
