"""The tiles that kernels are compiled with: what may be chosen, how a choice is searched for, and which one a call takes."""
