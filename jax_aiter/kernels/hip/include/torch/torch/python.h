#include "jax_aiter_torch.h"
