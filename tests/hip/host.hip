// Host code of the kinds that AITER has, small: what the recorder must see, and what it must refuse.
#include <torch/all.h>

#include <cstdlib>

namespace sample {

enum class Kind : int { Plain, Other };

struct Fields {
    int rows;
    float* out;
    const float* in;
    int low, high;
    const void* unread;
};

__global__ void by_value(Fields fields, float factor, bool flag)
{
    if(threadIdx.x < fields.rows)
        fields.out[threadIdx.x] = flag ? fields.in[threadIdx.x] * factor : 0.0f;
}

template <class T>
__global__ void two(T* out, const T* in, int64_t count)
{
    extern __shared__ int lds[];
    lds[threadIdx.x] = 0;
    if(threadIdx.x < count)
        out[threadIdx.x] = in[threadIdx.x];
}

// An address in a struct, one beyond a buffer's start, one of the stack, and two numbers that look like the address `look`.
void launches(at::Tensor& out, const at::Tensor& in, double factor, bool flag, std::optional<at::Tensor> scale, int64_t look)
{
    int local = 0;
    Fields fields{int(in.size(0)), out.data_ptr<float>(), in.data_ptr<float>() + 4, int(look), int(look >> 32), &local};
    (void)hipMemsetAsync(out.data_ptr(), 0, out.numel() * 4, nullptr);
    by_value<<<dim3(3, 2), dim3(64)>>>(fields, float(factor), flag);
    const auto& from = scale.has_value() ? *scale : in;
    if(out.scalar_type() == at::ScalarType::Float)
        two<float><<<1, 64, 256, at::hip::getCurrentHIPStream()>>>(out.data_ptr<float>(), from.data_ptr<float>(), 5);
    (void)hipMemcpyAsync(out.data_ptr(), from.data_ptr(), 8, hipMemcpyDeviceToDevice, nullptr);
}

void device(at::Tensor& out)
{
    hipDeviceProp_t found;
    (void)hipGetDeviceProperties(&found, 0);
    two<float><<<found.multiProcessorCount, found.warpSize>>>(out.data_ptr<float>(), out.data_ptr<float>(), found.gcnArchName[5]);
}

void many(at::Tensor& out, int a, int b, int c, int d, int e, int f, float g, const std::string& text, Kind kind, std::optional<at::Tensor> const& none)
{
    const int64_t sum = a + b + c + d + e + f + int(g) + int(text.size()) + int(kind) + none.has_value();
    two<float><<<1, 1>>>(out.data_ptr<float>(), nullptr, sum);
}

void maybe(at::Tensor& out, std::optional<double> a, int b, std::optional<double> c, int d, int e, int f, std::optional<double> g, double h)
{
    const int64_t sum = int64_t(a.value_or(100)) + b + int64_t(c.value_or(100)) + d + e + f + int64_t(g.value_or(100)) + int64_t(h);
    two<float><<<1, 1>>>(out.data_ptr<float>(), nullptr, sum);
}

void elsewhere(at::Tensor& out)
{
    two<float><<<1 + (reinterpret_cast<uintptr_t>(out.data_ptr()) >> 40) % 5, 1>>>(out.data_ptr<float>(), nullptr, 0);
}
void checks(at::Tensor& out) { TORCH_CHECK(out.dim() == 7, __func__, " takes 7 axes, not ", out.dim()); }
void reads(at::Tensor& out) { two<float><<<1, int(*out.data_ptr<float>())>>>(out.data_ptr<float>(), nullptr, 0); }
void aborts(at::Tensor&)
{
    std::fprintf(stderr, "seven axes are needed\n");
    std::abort();
}
void allocates(at::Tensor&)
{
    void* p;
    (void)hipMalloc(&p, 80);
}
// Two pieces of memory that torch makes, the second of no bytes.
void workspace(at::Tensor& out)
{
    auto made = at::empty({out.numel(), 3}, out.options());
    auto none = at::empty({0}, out.options());
    two<float><<<1, 64>>>(made.data_ptr<float>() + 1, none.data_ptr<float>(), 5);
    two<float><<<1, 64>>>(out.data_ptr<float>(), made.data_ptr<float>(), 5);
}
void nothing(at::Tensor&) {}
void given(at::Tensor out, at::Tensor in)
{
    two<float><<<1, 64, 256>>>(out.data_ptr<float>(), in.data_ptr<float>(), in.size(0));
}
int difference(int a, int b) { return a - b; }
void asks(at::Tensor&)
{
    int n;
    (void)hipOccupancyMaxActiveBlocksPerMultiprocessor(&n, reinterpret_cast<const void*>(two<float>), 64, 0);
}
void copies(at::Tensor& out)
{
    int64_t own = 7;
    (void)hipMemcpyAsync(out.data_ptr(), &own, 8, hipMemcpyHostToDevice, nullptr);
}

// Of another library, which is loaded when this calls it. What it returns has its caller's room, and comes before the arguments.
template <class T> at::Tensor part(at::Tensor& out, std::optional<at::Tensor> scale, float factor, int count);
at::Tensor opens(at::Tensor& out, std::optional<at::Tensor> scale, float factor, int count)
{
    two<float><<<1, 1>>>(out.data_ptr<float>(), nullptr, 0);
    return factor > 0 ? part<float>(out, scale, factor, count) : part<int>(out, scale, factor, count);
}

} // namespace sample
