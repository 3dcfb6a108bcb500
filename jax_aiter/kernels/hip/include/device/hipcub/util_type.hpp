// hipCUB's pair of a key and its value.
#pragma once

namespace hipcub {

template <class K, class V>
struct KeyValuePair {
    using Key   = K;
    using Value = V;
    K key;
    V value;
    KeyValuePair() = default;
    __host__ __device__ KeyValuePair(const K& k, const V& v) : key(k), value(v) {}
};

} // namespace hipcub
