"""AITER's HIP, opus and CK kernels: its own host code recorded, the one kernel that a plan names compiled, no ROCm needed."""
