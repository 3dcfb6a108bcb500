// Of hipCUB, what AITER's kernels use: a block's reduction, and the operators it is given.
#pragma once

#include <rocprim/rocprim.hpp>

#include <hipcub/util_type.hpp>

namespace hipcub {

struct Sum {
    template <class T> __host__ __device__ T operator()(const T& a, const T& b) const { return a + b; }
};
struct Max {
    template <class T> __host__ __device__ T operator()(const T& a, const T& b) const { return a < b ? b : a; }
};
struct Min {
    template <class T> __host__ __device__ T operator()(const T& a, const T& b) const { return b < a ? b : a; }
};
// Of equal values the one with the smaller key.
struct ArgMax {
    template <class P> __host__ __device__ P operator()(const P& a, const P& b) const
    {
        return b.value > a.value || (a.value == b.value && b.key < a.key) ? b : a;
    }
};
struct ArgMin {
    template <class P> __host__ __device__ P operator()(const P& a, const P& b) const
    {
        return b.value < a.value || (a.value == b.value && b.key < a.key) ? b : a;
    }
};

// The result is thread 0's. A kernel that uses the storage again waits for all threads first.
template <class T, int threads, int algorithm = 0, int rows = 1, int layers = 1>
class BlockReduce {
    static constexpr int wave  = 64;
    static constexpr int waves = (threads * rows * layers + wave - 1) / wave;

public:
    struct TempStorage {
        T partial[waves];
    };

    __device__ explicit BlockReduce(TempStorage& storage) : partial(storage.partial) {}

    template <class Op>
    __device__ T Reduce(T value, Op op, int valid = threads * rows * layers)
    {
        const int thread = threadIdx.x + threads * (threadIdx.y + rows * threadIdx.z);
        const int first  = thread / wave * wave;
        value            = reduced(value, op, thread - first, valid - first);
        if(thread == first)
            partial[thread / wave] = value;
        __syncthreads();
        const int used = (valid + wave - 1) / wave;
        if(thread < wave)
            value = reduced(partial[thread < used ? thread : 0], op, thread, used);
        return value;
    }

    __device__ T Sum(T value) { return Reduce(value, hipcub::Sum()); }

private:
    // Of the first `count` lanes, in lane 0.
    template <class Op>
    static __device__ T reduced(T value, Op op, int lane, int count)
    {
        for(int step = 1; step < wave; step *= 2) {
            const T other = rocprim::warp_shuffle_down(value, step);
            if(lane + step < count && lane + step < wave)
                value = op(value, other);
        }
        return value;
    }

    T (&partial)[waves];
};

} // namespace hipcub
