// A C entry point for AITER's C++ function mha_bwd. The struct is filled as AITER's torch front ends fill it (asm_mha_bwd.cu,
// asm_mha_varlen_bwd.cu) for contiguous [B, S, H, D] or packed [total, H, D] arrays, no bias, no dropout, dk and dv per query head.
#include "aiter_tensor.h"
#include "cpp_itfs/mha_bwd.cu"

extern "C" int record_mha_bwd(aiter_tensor_t* q, aiter_tensor_t* k, aiter_tensor_t* v, aiter_tensor_t* out, aiter_tensor_t* lse,
                              aiter_tensor_t* dout, aiter_tensor_t* delta, aiter_tensor_t* dq, aiter_tensor_t* dk,
                              aiter_tensor_t* dv, aiter_tensor_t* accumulator, aiter_tensor_t* cu_q, aiter_tensor_t* cu_k,
                              int max_seqlen_q, int max_seqlen_k, int causal, float scale, int fp32_atomics, int rounding,
                              hipStream_t) {
    const bool packed = cu_q != nullptr;
    const int t = packed ? 0 : 1;  // the axis of tokens
    aiter::mha_bwd_args a{};
    a.use_asm_v3 = true;
    a.v3_atomic_fp32 = fp32_atomics;
    a.v3_bf16_cvt = rounding;
    a.hdim_q = q->size(-1), a.hdim_v = v->size(-1);
    a.data_type = q->dtype() == AITER_DTYPE_fp16 ? "fp16" : "bf16";
    a.is_group_mode = packed;
    a.mask_type = causal ? 2 : 0;  // bottom right
    a.q_ptr = q->ptr, a.k_ptr = k->ptr, a.v_ptr = v->ptr, a.o_ptr = out->ptr, a.lse_ptr = lse->ptr, a.do_ptr = dout->ptr;
    a.d_ptr = delta->ptr, a.dq_ptr = dq->ptr, a.dk_ptr = dk->ptr, a.dv_ptr = dv->ptr;
    a.seqstart_q_ptr = packed ? cu_q->ptr : nullptr;
    a.seqstart_k_ptr = packed ? cu_k->ptr : nullptr;
    a.seqlen_q = q->size(t), a.seqlen_k = k->size(t);
    a.batch = packed ? cu_q->size(0) - 1 : q->size(0);
    a.max_seqlen_q = packed ? max_seqlen_q : q->size(1);
    a.max_seqlen_k = packed ? max_seqlen_k : k->size(1);
    a.nhead_q = q->size(-2), a.nhead_k = k->size(-2);
    a.scale = scale;
    a.stride_q = q->stride(t), a.stride_k = k->stride(t), a.stride_v = v->stride(t), a.stride_o = out->stride(t);
    a.stride_do = dout->stride(t), a.stride_dq = dq->stride(t), a.stride_dk = dk->stride(t), a.stride_dv = dv->stride(t);
    a.nhead_stride_q = q->stride(t + 1), a.nhead_stride_k = k->stride(t + 1), a.nhead_stride_v = v->stride(t + 1);
    a.nhead_stride_o = out->stride(t + 1), a.nhead_stride_do = dout->stride(t + 1);
    a.nhead_stride_dq = dq->stride(t + 1), a.nhead_stride_dk = dk->stride(t + 1), a.nhead_stride_dv = dv->stride(t + 1);
    a.nhead_stride_lsed = packed ? lse->stride(0) : lse->stride(1);
    if (!packed) {
        a.batch_stride_q = q->stride(0), a.batch_stride_k = k->stride(0), a.batch_stride_v = v->stride(0);
        a.batch_stride_o = out->stride(0), a.batch_stride_do = dout->stride(0), a.batch_stride_lsed = lse->stride(0);
        a.batch_stride_dq = dq->stride(0), a.batch_stride_dk = dk->stride(0), a.batch_stride_dv = dv->stride(0);
    }
    a.window_size_left = -1;
    a.window_size_right = causal ? 0 : -1;
    a.p_undrop = 1;
    void* address = accumulator->ptr;
    a.workspace_alloc = [address](size_t, bool) { return address; };
    return aiter::mha_bwd(a, ck_tile::stream_config{}) < 0 ? -1 : 0;
}
