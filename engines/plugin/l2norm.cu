// L2Norm: y = x / sqrt(max(sum(x^2), epsilon)) over the last axis, as TensorFlow's l2_normalize.
//
// FP32 or FP16 in and out, the sum always in FP32: in FP16 it would overflow at a norm of 256, and an
// epsilon of 1e-12 would be 0. One warp makes one row, in a fixed order, so results are repeatable.
//
// One source for every TensorRT from 8.2 (JetPack 4.6, CUDA 10.2, C++14) to 11: IPluginV2DynamicExt
// below 10, IPluginV3 from there on. It registers itself when the library is loaded. Build lines are
// in CMakeLists.txt beside this file and in what build_engines.py says when the library is missing.

#include <cuda_fp16.h>

namespace kiosk
{
constexpr int kWarp = 32;
constexpr int kRowsPerBlock = 4;
constexpr int kKept = 4; // packs of a row that a thread keeps in registers: 512 floats or 1024 halves a row

template <typename T, int kSize>
struct alignas(sizeof(T) * kSize) Pack // what one load or store moves
{
    T item[kSize];
};

__device__ inline float toFloat(float value)
{
    return value;
}

__device__ inline float toFloat(__half value)
{
    return __half2float(value);
}

__device__ inline void store(float& to, float value)
{
    to = value;
}

__device__ inline void store(__half& to, float value)
{
    to = __float2half(value);
}

template <typename T, int kSize>
__device__ inline float squares(Pack<T, kSize> const& pack)
{
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kSize; ++i)
    {
        float const value = toFloat(pack.item[i]);
        sum += value * value;
    }
    return sum;
}

template <typename T, int kSize>
__device__ inline Pack<T, kSize> scaled(Pack<T, kSize> pack, float scale)
{
#pragma unroll
    for (int i = 0; i < kSize; ++i)
    {
        store(pack.item[i], toFloat(pack.item[i]) * scale);
    }
    return pack;
}

// Rows of `packs` packs each, one warp a row. What does not fit into registers is read twice.
template <typename T, int kSize>
__global__ void l2norm(T const* input, T* output, int rows, int packs, float epsilon)
{
    int const row = blockIdx.x * kRowsPerBlock + threadIdx.x / kWarp;
    int const lane = threadIdx.x % kWarp;
    if (row >= rows)
    {
        return; // the whole warp
    }
    auto const* from = reinterpret_cast<Pack<T, kSize> const*>(input) + static_cast<long long>(row) * packs;
    auto* to = reinterpret_cast<Pack<T, kSize>*>(output) + static_cast<long long>(row) * packs;
    Pack<T, kSize> kept[kKept];
    float sum = 0.0F;
#pragma unroll
    for (int k = 0; k < kKept; ++k)
    {
        int const at = lane + k * kWarp;
        if (at < packs)
        {
            kept[k] = from[at];
            sum += squares(kept[k]);
        }
    }
    for (int at = lane + kKept * kWarp; at < packs; at += kWarp)
    {
        sum += squares(from[at]);
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
    {
        sum += __shfl_xor_sync(0xffffffffU, sum, offset);
    }
    float const scale = 1.0F / sqrtf(fmaxf(sum, epsilon));
#pragma unroll
    for (int k = 0; k < kKept; ++k)
    {
        int const at = lane + k * kWarp;
        if (at < packs)
        {
            to[at] = scaled(kept[k], scale);
        }
    }
    for (int at = lane + kKept * kWarp; at < packs; at += kWarp)
    {
        to[at] = scaled(from[at], scale);
    }
}

template __global__ void l2norm<float, 1>(float const*, float*, int, int, float);
template __global__ void l2norm<float, 4>(float const*, float*, int, int, float);
template __global__ void l2norm<__half, 1>(__half const*, __half*, int, int, float);
template __global__ void l2norm<__half, 8>(__half const*, __half*, int, int, float);
} // namespace kiosk

#define KIOSK_L2NORM_REVISION 1 // raise it with every change: a library of another revision is not loaded

#ifndef __CUDACC_RTC__ // what follows is for the host; the run-time compiler of the tests reads the kernel alone

#include <NvInferRuntime.h>

#include <cstdint>
#include <cstring>
#include <cuda_runtime_api.h>
#include <string>

namespace kiosk
{
constexpr float kEpsilon = 1e-12F;
constexpr char const* kName = "L2Norm";
constexpr char const* kVersion = "1";

template <typename T, int kSize>
cudaError_t launch(void const* input, void* output, int rows, int width, float epsilon, cudaStream_t stream)
{
    auto const* from = static_cast<T const*>(input);
    auto* to = static_cast<T*>(output);
    int const blocks = (rows + kRowsPerBlock - 1) / kRowsPerBlock;
    bool const aligned = (reinterpret_cast<std::uintptr_t>(input) | reinterpret_cast<std::uintptr_t>(output)) % 16 == 0;
    if (aligned && width % kSize == 0)
    {
        l2norm<T, kSize><<<blocks, kRowsPerBlock * kWarp, 0, stream>>>(from, to, rows, width / kSize, epsilon);
    }
    else
    {
        l2norm<T, 1><<<blocks, kRowsPerBlock * kWarp, 0, stream>>>(from, to, rows, width, epsilon);
    }
    return cudaGetLastError();
}

// 0 for success. No rows, no launch: a grid of no blocks is an error.
int normalise(void const* input, void* output, int rows, int width, float epsilon, bool half, cudaStream_t stream)
{
    if (rows <= 0 || width <= 0)
    {
        return rows < 0 || width < 0;
    }
    cudaError_t const status = half ? launch<__half, 8>(input, output, rows, width, epsilon, stream)
                                    : launch<float, 4>(input, output, rows, width, epsilon, stream);
    return status == cudaSuccess ? 0 : 1;
}

int enqueueRows(nvinfer1::PluginTensorDesc const& desc, void const* input, void* output, float epsilon,
    cudaStream_t stream) noexcept
{
    nvinfer1::Dims const& dims = desc.dims;
    if (dims.nbDims < 1)
    {
        return 1;
    }
    int rows = 1;
    for (int i = 0; i + 1 < dims.nbDims; ++i)
    {
        rows *= static_cast<int>(dims.d[i]);
    }
    int const width = static_cast<int>(dims.d[dims.nbDims - 1]);
    return normalise(input, output, rows, width, epsilon, desc.type == nvinfer1::DataType::kHALF, stream);
}

// Both read and written in the order of their axes, FP32 or FP16, the output as the input.
bool supports(int pos, nvinfer1::PluginTensorDesc const& desc, nvinfer1::PluginTensorDesc const& input) noexcept
{
    bool const number = desc.type == nvinfer1::DataType::kFLOAT || desc.type == nvinfer1::DataType::kHALF;
    return number && desc.format == nvinfer1::TensorFormat::kLINEAR && (pos == 0 || desc.type == input.type);
}

// False where `epsilon` is of another type or is no positive number.
bool readEpsilon(nvinfer1::PluginFieldCollection const* fields, float& epsilon) noexcept
{
    epsilon = kEpsilon;
    for (int i = 0; fields != nullptr && i < fields->nbFields; ++i)
    {
        nvinfer1::PluginField const& field = fields->fields[i];
        if (std::strcmp(field.name, "epsilon") != 0)
        {
            continue;
        }
        if (field.type != nvinfer1::PluginFieldType::kFLOAT32 || field.length != 1 || field.data == nullptr)
        {
            return false;
        }
        std::memcpy(&epsilon, field.data, sizeof(epsilon));
    }
    return epsilon > 0.0F;
}

#if NV_TENSORRT_MAJOR >= 10

class L2Norm : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime
{
public:
    explicit L2Norm(float epsilon)
        : mEpsilon(epsilon)
        , mField("epsilon", &mEpsilon, nvinfer1::PluginFieldType::kFLOAT32, 1)
    {
        mFields.nbFields = 1;
        mFields.fields = &mField;
    }

    L2Norm(L2Norm const& other)
        : L2Norm(other.mEpsilon) // its field points to its own epsilon
    {
    }

    L2Norm& operator=(L2Norm const&) = delete;

    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override
    {
        switch (type)
        {
        case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }

    nvinfer1::IPluginV3* clone() noexcept override
    {
        return new L2Norm(*this);
    }

    char const* getPluginName() const noexcept override
    {
        return kName;
    }

    char const* getPluginVersion() const noexcept override
    {
        return kVersion;
    }

    char const* getPluginNamespace() const noexcept override
    {
        return "";
    }

    int32_t getNbOutputs() const noexcept override
    {
        return 1;
    }

    int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const*, int32_t nbInputs,
        nvinfer1::DynamicPluginTensorDesc const*, int32_t nbOutputs) noexcept override
    {
        return nbInputs == 1 && nbOutputs == 1 ? 0 : 1;
    }

    int32_t getOutputDataTypes(nvinfer1::DataType* outputTypes, int32_t, nvinfer1::DataType const* inputTypes,
        int32_t) const noexcept override
    {
        outputTypes[0] = inputTypes[0];
        return 0;
    }

    int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t, nvinfer1::DimsExprs const*, int32_t,
        nvinfer1::DimsExprs* outputs, int32_t, nvinfer1::IExprBuilder&) noexcept override
    {
        outputs[0] = inputs[0];
        return 0;
    }

    bool supportsFormatCombination(
        int32_t pos, nvinfer1::DynamicPluginTensorDesc const* inOut, int32_t, int32_t) noexcept override
    {
        return supports(pos, inOut[pos].desc, inOut[0].desc);
    }

    int32_t onShapeChange(nvinfer1::PluginTensorDesc const*, int32_t, nvinfer1::PluginTensorDesc const*,
        int32_t) noexcept override
    {
        return 0;
    }

    int32_t enqueue(nvinfer1::PluginTensorDesc const* inputDesc, nvinfer1::PluginTensorDesc const*,
        void const* const* inputs, void* const* outputs, void*, cudaStream_t stream) noexcept override
    {
        return enqueueRows(inputDesc[0], inputs[0], outputs[0], mEpsilon, stream);
    }

    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override
    {
        return clone();
    }

    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override
    {
        return &mFields;
    }

private:
    float mEpsilon;
    nvinfer1::PluginField mField;
    nvinfer1::PluginFieldCollection mFields{};
};

using CreatorBase = nvinfer1::IPluginCreatorV3One;

#else

class L2Norm : public nvinfer1::IPluginV2DynamicExt
{
public:
    explicit L2Norm(float epsilon)
        : mEpsilon(epsilon)
    {
    }

    nvinfer1::IPluginV2DynamicExt* clone() const noexcept override
    {
        return new L2Norm(*this); // the name space, too
    }

    nvinfer1::DimsExprs getOutputDimensions(
        int32_t, nvinfer1::DimsExprs const* inputs, int32_t, nvinfer1::IExprBuilder&) noexcept override
    {
        return inputs[0];
    }

    bool supportsFormatCombination(
        int32_t pos, nvinfer1::PluginTensorDesc const* inOut, int32_t, int32_t) noexcept override
    {
        return supports(pos, inOut[pos], inOut[0]);
    }

    void configurePlugin(nvinfer1::DynamicPluginTensorDesc const*, int32_t, nvinfer1::DynamicPluginTensorDesc const*,
        int32_t) noexcept override
    {
    }

    size_t getWorkspaceSize(nvinfer1::PluginTensorDesc const*, int32_t, nvinfer1::PluginTensorDesc const*,
        int32_t) const noexcept override
    {
        return 0;
    }

    int32_t enqueue(nvinfer1::PluginTensorDesc const* inputDesc, nvinfer1::PluginTensorDesc const*,
        void const* const* inputs, void* const* outputs, void*, cudaStream_t stream) noexcept override
    {
        return enqueueRows(inputDesc[0], inputs[0], outputs[0], mEpsilon, stream);
    }

    nvinfer1::DataType getOutputDataType(
        int32_t, nvinfer1::DataType const* inputTypes, int32_t) const noexcept override
    {
        return inputTypes[0];
    }

    char const* getPluginType() const noexcept override
    {
        return kName;
    }

    char const* getPluginVersion() const noexcept override
    {
        return kVersion;
    }

    int32_t getNbOutputs() const noexcept override
    {
        return 1;
    }

    int32_t initialize() noexcept override
    {
        return 0;
    }

    void terminate() noexcept override {}

    size_t getSerializationSize() const noexcept override
    {
        return sizeof(mEpsilon);
    }

    void serialize(void* buffer) const noexcept override
    {
        std::memcpy(buffer, &mEpsilon, sizeof(mEpsilon));
    }

    void destroy() noexcept override
    {
        delete this;
    }

    void setPluginNamespace(char const* name) noexcept override
    {
        mNamespace = name;
    }

    char const* getPluginNamespace() const noexcept override
    {
        return mNamespace.c_str();
    }

private:
    // The same methods of the plain plugins below, which would be hidden.
    using nvinfer1::IPluginV2::enqueue;
    using nvinfer1::IPluginV2::getOutputDimensions;
    using nvinfer1::IPluginV2::getWorkspaceSize;
    using nvinfer1::IPluginV2Ext::configurePlugin;

    float mEpsilon;
    std::string mNamespace;
};

using CreatorBase = nvinfer1::IPluginCreator;

#endif

class L2NormCreator : public CreatorBase
{
public:
    L2NormCreator()
        : mField("epsilon", nullptr, nvinfer1::PluginFieldType::kFLOAT32, 1)
    {
        mFields.nbFields = 1;
        mFields.fields = &mField;
    }

    char const* getPluginName() const noexcept override
    {
        return kName;
    }

    char const* getPluginVersion() const noexcept override
    {
        return kVersion;
    }

    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override
    {
        return &mFields;
    }

#if NV_TENSORRT_MAJOR >= 10
    nvinfer1::IPluginV3* createPlugin(char const*, nvinfer1::PluginFieldCollection const* fields,
        nvinfer1::TensorRTPhase) noexcept override
    {
        float epsilon;
        return readEpsilon(fields, epsilon) ? new L2Norm(epsilon) : nullptr;
    }

    char const* getPluginNamespace() const noexcept override
    {
        return "";
    }
#else
    nvinfer1::IPluginV2* createPlugin(
        char const*, nvinfer1::PluginFieldCollection const* fields) noexcept override
    {
        float epsilon;
        return readEpsilon(fields, epsilon) ? named(new L2Norm(epsilon)) : nullptr;
    }

    nvinfer1::IPluginV2* deserializePlugin(char const*, void const* data, size_t length) noexcept override
    {
        float epsilon;
        if (length != sizeof(epsilon))
        {
            return nullptr;
        }
        std::memcpy(&epsilon, data, sizeof(epsilon));
        return named(new L2Norm(epsilon));
    }

    void setPluginNamespace(char const* name) noexcept override
    {
        mNamespace = name;
    }

    char const* getPluginNamespace() const noexcept override
    {
        return mNamespace.c_str();
    }
#endif

private:
#if NV_TENSORRT_MAJOR < 10
    nvinfer1::IPluginV2* named(L2Norm* plugin) const noexcept
    {
        plugin->setPluginNamespace(mNamespace.c_str());
        return plugin;
    }

    std::string mNamespace;
#endif
    nvinfer1::PluginField mField;
    nvinfer1::PluginFieldCollection mFields{};
};

REGISTER_TENSORRT_PLUGIN(L2NormCreator);
} // namespace kiosk

// engines/plugin/__init__.py looks for this text in the file before it loads the library.
#define KIOSK_TEXT(x) #x
#define KIOSK_VALUE(x) KIOSK_TEXT(x)
extern "C" char const kiosk_l2norm_build[]
    = "kiosk L2Norm revision " KIOSK_VALUE(KIOSK_L2NORM_REVISION) " for TensorRT " KIOSK_VALUE(NV_TENSORRT_MAJOR);

// The kernel by itself, for tests and benchmarks; 0 for success.
extern "C" int kiosk_l2norm(
    void const* input, void* output, int rows, int width, float epsilon, int half, cudaStream_t stream)
{
    return kiosk::normalise(input, output, rows, width, epsilon, half != 0, stream);
}

#endif
