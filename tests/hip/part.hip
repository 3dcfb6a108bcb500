// The other library of `host.hip`.
#include <torch/all.h>

namespace sample {

template <class T>
__global__ void scaled(T* out, const T* scale, float factor, int count)
{
    if(threadIdx.x < count)
        out[threadIdx.x] *= scale[threadIdx.x] * factor;
}

template <class T>
at::Tensor part(at::Tensor& out, std::optional<at::Tensor> scale, float factor, int count)
{
    scaled<T><<<count, 64>>>(out.data_ptr<T>(), scale->data_ptr<T>(), factor, count);
    return out;
}
template at::Tensor part<float>(at::Tensor& out, std::optional<at::Tensor> scale, float factor, int count);

} // namespace sample
