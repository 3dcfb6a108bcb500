// What AITER's host code of 2025 uses of torch: a tensor that is an address, sizes, strides and a dtype, and nothing that allocates.
//
// Written for recording: no memory is ever read or made. Whatever cannot be recorded calls jax_aiter_refuse, which the recorder has.
#pragma once

#include "jax_aiter_scalars.h"
#include "jax_aiter_tensor.h"
#include "jax_aiter_dispatch.h"
#include "jax_aiter_stream.h"
