"""Where and when training and evaluation run: profiles, jobs, commands, reports."""
