// Calls a C++ function of AITER with arguments that Python lays out as slots: what each parameter needs is taken from its type.
#pragma once
#include <torch/all.h>

#include <utility>

struct Slot {
    int64_t given;  // 0 for None
    union {
        void* pointer;
        int64_t integer;
        double real;
    };
};

template <class T, class = void>
struct Passed {  // a number or an enumerator
    T value;
    explicit Passed(const Slot& s) {
        if constexpr (std::is_floating_point_v<T>)
            value = T(s.real);
        else
            value = static_cast<T>(s.integer);
    }
};
template <>
struct Passed<at::Tensor> {
    at::Tensor& value;
    explicit Passed(const Slot& s) : value(*static_cast<at::Tensor*>(s.pointer)) {}
};
template <>
struct Passed<std::string> {
    std::string value;
    explicit Passed(const Slot& s) : value(static_cast<const char*>(s.pointer)) {}
};
template <class T>
struct Passed<std::optional<T>> {
    std::optional<T> value;
    explicit Passed(const Slot& s) {
        if (s.given) value = Passed<T>(s).value;
    }
};

template <class R, class... P, size_t... I>
const char* invoke(R (*function)(P...), const Slot* slots, int count, std::index_sequence<I...>) {
    static std::string error;
    try {
        if (count != sizeof...(P)) refuse("takes ", sizeof...(P), " arguments, got ", count);
        std::tuple<Passed<std::remove_cv_t<std::remove_reference_t<P>>>...> passed{Passed<std::remove_cv_t<std::remove_reference_t<P>>>(slots[I])...};
        function(std::get<I>(passed).value...);
        return nullptr;
    } catch (const std::exception& e) {
        error = e.what();
        return error.c_str();
    }
}
#define ENTRY(function)                                                               \
    extern "C" const char* record_##function(const Slot* slots, int count) {          \
        return invoke_any(function, slots, count);                                    \
    }
template <class R, class... P>
const char* invoke_any(R (*function)(P...), const Slot* slots, int count) {
    return invoke(function, slots, count, std::index_sequence_for<P...>{});
}
