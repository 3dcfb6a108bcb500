// A C entry point for AITER's C++ function mha_fwd. The structs are filled as AITER's torch front ends fill them (asm_mha_fwd.cu,
// asm_mha_varlen_fwd.cu) for contiguous [B, S, H, D] or packed [total, H, D] arrays, no bias, no dropout.
#include "aiter_tensor.h"
#include "cpp_itfs/mha_fwd.cu"

extern "C" int record_mha_fwd(aiter_tensor_t* q, aiter_tensor_t* k, aiter_tensor_t* v, aiter_tensor_t* out, aiter_tensor_t* lse,
                              aiter_tensor_t* cu_q, aiter_tensor_t* cu_k, int max_seqlen_q, int causal, float scale,
                              int rounding, hipStream_t) {
    const bool packed = cu_q != nullptr;
    const int t = packed ? 0 : 1;  // the axis of tokens
    aiter::mha_fwd_args a{};
    a.use_asm_v3 = true;
    a.how_v3_bf16_cvt = rounding;
    a.data_type = "bf16";
    a.is_group_mode = packed;
    a.has_lse = true;
    a.q_ptr = q->ptr, a.k_ptr = k->ptr, a.v_ptr = v->ptr, a.o_ptr = out->ptr, a.lse_ptr = lse->ptr;
    a.seqstart_q_ptr = packed ? cu_q->ptr : nullptr;
    a.seqstart_k_ptr = packed ? cu_k->ptr : nullptr;
    a.seqlen_q = q->size(t), a.seqlen_k = k->size(t);
    a.batch = packed ? cu_q->size(0) - 1 : q->size(0);
    a.max_seqlen_q = packed ? max_seqlen_q : q->size(1);
    a.hdim_q = q->size(-1), a.hdim_v = v->size(-1);
    a.nhead_q = q->size(-2), a.nhead_k = k->size(-2);
    a.scale_s = scale;
    a.stride_q = q->stride(t), a.stride_k = k->stride(t), a.stride_v = v->stride(t), a.stride_o = out->stride(t);
    a.nhead_stride_q = q->stride(t + 1), a.nhead_stride_k = k->stride(t + 1);
    a.nhead_stride_v = v->stride(t + 1), a.nhead_stride_o = out->stride(t + 1);
    a.nhead_stride_lse = packed ? lse->stride(0) : lse->stride(1);
    if (!packed) {
        a.batch_stride_q = q->stride(0), a.batch_stride_k = k->stride(0), a.batch_stride_v = v->stride(0);
        a.batch_stride_o = out->stride(0), a.batch_stride_lse = lse->stride(0);
    }
    a.window_size_left = -1;
    a.window_size_right = causal ? 0 : -1;
    a.mask_type = causal ? 2 : 0;  // bottom right
    return aiter::mha_fwd(a, ck_tile::stream_config{}) < 0 ? -1 : 0;
}
