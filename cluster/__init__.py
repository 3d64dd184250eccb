"""Where and when training and evaluation run: profiles, jobs, commands, reports."""

import os

# A thread of Ray Data's may outlive its cluster, and would start another by asking it for
# something: the next one of a command then failed. Ray reads this while it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
