// Of rocPRIM, what AITER's reductions use: values of any type moved between the lanes of a wave, a word at a time.
#pragma once

#include <hip/hip_runtime.h>

namespace rocprim {
namespace detail {

template <class T, class Move>
__device__ inline T by_words(const T& value, Move move)
{
    constexpr int count = (sizeof(T) + 3) / 4;
    int words[count] = {};
    __builtin_memcpy(words, &value, sizeof(T));
    for(int i = 0; i < count; ++i)
        words[i] = move(words[i]);
    T moved;
    __builtin_memcpy(&moved, words, sizeof(T));
    return moved;
}

// Lanes that the masks leave out, and those whose source is none, get zero.
template <class T, int control, int row_mask = 0xf, int bank_mask = 0xf, bool bound_control = false>
__device__ inline T warp_move_dpp(const T& value)
{
    return by_words(value, [](int word) { return __builtin_amdgcn_update_dpp(0, word, control, row_mask, bank_mask, bound_control); });
}

} // namespace detail

// The value of lane `source` of each group of `width` lanes.
template <class T>
__device__ inline T warp_shuffle(const T& value, int source, int width = 64)
{
    const int self  = __lane_id();
    const int index = (source & (width - 1)) + (self & ~(width - 1));
    return detail::by_words(value, [=](int word) { return __builtin_amdgcn_ds_bpermute(index << 2, word); });
}

template <class T>
__device__ inline T warp_shuffle_down(const T& value, int delta, int width = 64)
{
    const int self  = __lane_id();
    const int index = (self & (width - 1)) + delta < width ? self + delta : self;
    return detail::by_words(value, [=](int word) { return __builtin_amdgcn_ds_bpermute(index << 2, word); });
}

} // namespace rocprim
