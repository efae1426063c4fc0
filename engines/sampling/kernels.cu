// Pictures to network inputs on the GPU: the kernels of engines/sampling/cuda.py, one launch each.
//
// C++ of the year 2014 and CUDA 10.2 (a Jetson Nano's nvcc), no header. What cpu.py does through
// OpenCV is done here by the same rules: by area where a picture shrinks, bilinear where it grows,
// rounded to whole grey levels before it is normalised. What is shrunk is shrunk in OpenCV's order of
// operations, so that not even the last bit differs: candidates whose scores are all but equal would
// turn such a bit into another box.
//
// The tests compile this file for the CPU too, one thread after the other (tests/doubles/host_kernels.cpp).

#ifdef __CUDACC__
#define LANES(n) (n)
constexpr bool ALONE = false;
#else
#define LANES(n) 1            // no warp there,
constexpr bool ALONE = true;  // so a thread without work may leave
#endif

enum Format { BGR8 = 0, RGB8 = 1, BGRA8 = 2, RGBA8 = 3, NV12 = 4 };

constexpr int WARP = 32;
constexpr float MEAN = 127.5f, SCALE = 1.0f / 128.0f;  // of MTCNN's inputs

struct Frame {
    const unsigned char* data;
    int height, width, pitch, format;  // pixels, pixels, bytes from one row to the next
};

struct Pixel {
    float red, green, blue;
};

struct Window {
    int left, top, width, height;  // in pixels of the frame, over its border allowed
};

// One scale of the pyramid; engines/sampling/layout.py says where it lies.
struct Level {
    int height, width;    // of the whole frame at this scale
    int rows, columns;    // of it in the blob: what whole cells cover
    int top, left;        // in the blob
    int first, lanes;     // its first thread, and how many threads share a pixel
};

static __device__ inline float bounded(float value) { return fminf(fmaxf(value, 0.0f), 255.0f); }

static __device__ inline Pixel pixel(const Frame& frame, int x, int y) {
    Pixel found;
    if (frame.format == NV12) {  // BT.601, 16..235, as OpenCV and the cameras have it
        const unsigned char* chroma = frame.data + (frame.height + y / 2) * frame.pitch + x / 2 * 2;
        const float luma = 1.164f * fmaxf(frame.data[y * frame.pitch + x] - 16.0f, 0.0f);
        const float u = chroma[0] - 128.0f, v = chroma[1] - 128.0f;
        found.red = bounded(luma + 1.596f * v);
        found.green = bounded(luma - 0.813f * v - 0.391f * u);
        found.blue = bounded(luma + 2.018f * u);
        return found;
    }
    const int bytes = frame.format >= BGRA8 ? 4 : 3, swapped = frame.format & 1;
    const unsigned char* here = frame.data + y * frame.pitch + x * bytes;
    found.red = here[swapped ? 0 : 2];
    found.green = here[1];
    found.blue = here[swapped ? 2 : 0];
    return found;
}

// Product and sum rounded one after the other, as a CPU without fused operations does it.
static __device__ inline float plus_product(float sum, float one, float other) {
#ifdef __CUDACC__
    return __fadd_rn(sum, __fmul_rn(one, other));
#else
    return sum + one * other;
#endif
}

static __device__ inline void add(Pixel& sum, const Pixel& value, float weight) {
    sum.red = plus_product(sum.red, value.red, weight);
    sum.green = plus_product(sum.green, value.green, weight);
    sum.blue = plus_product(sum.blue, value.blue, weight);
}

// The value that lane `from` of those that share a pixel has.
static __device__ inline float of_lane(float value, int from, int lanes) {
#ifdef __CUDACC__
    return __shfl_sync(0xffffffffu, value, from, lanes);
#else
    return value;
#endif
}

// In parts of 1 / target of a pixel: how much of source pixel `at` lies in target pixel `index`.
static __device__ inline int shared_part(int at, int index, int source, int target) {
    const int from = max(at * target, index * source), to = min((at + 1) * target, (index + 1) * source);
    return to - from;
}

// Target pixel (x, y), of width x height, of a window that is shrunk. OpenCV's order: each row from left to
// right, then the rows from top to bottom; so the lanes take rows in turn and add up one after the other.
static __device__ Pixel by_area(
    const Frame& frame, const Window& window, int x, int y, int width, int height, int lane, int lanes) {
    const int left = x * window.width / width, right = ((x + 1) * window.width - 1) / width;
    const int top = y * window.height / height, bottom = ((y + 1) * window.height - 1) / height;
    const int begin = max(left, -window.left), end = min(right, frame.width - 1 - window.left);
    // Whole numbers of source pixels to a target pixel: sums of whole numbers, exact in any order.
    const bool plain = window.width % width == 0 && window.height % height == 0;
    const float first = plain ? 1.0f : (float)shared_part(left, x, window.width, width) / window.width;
    const float last = plain ? 1.0f : (float)shared_part(right, x, window.width, width) / window.width;
    const float inner = plain ? 1.0f : (float)width / window.width;
    Pixel sum = {0.0f, 0.0f, 0.0f};
    const int most = window.height / height + 2;  // rows that any pixel of this window has: one count for a whole warp
    for (int done = 0; done < most; done += lanes) {
        const int row = top + done + lane;
        Pixel line = {0.0f, 0.0f, 0.0f};
        if (row <= bottom && row + window.top >= 0 && row + window.top < frame.height) {
            for (int column = begin; column <= end; ++column)
                add(line, pixel(frame, window.left + column, window.top + row),
                    column == left ? first : column == right ? last : inner);
            const float part = plain ? 1.0f : (float)shared_part(row, y, window.height, height) / window.height;
            line.red *= part;
            line.green *= part;
            line.blue *= part;
        }
        for (int from = 0; from < lanes; ++from) {
            sum.red += of_lane(line.red, from, lanes);
            sum.green += of_lane(line.green, from, lanes);
            sum.blue += of_lane(line.blue, from, lanes);
        }
    }
    if (plain) {
        const int across = window.width / width, down = window.height / height;
        const bool four = across == 2 && down == 2;  // OpenCV rounds halves of this one case up, all others to even
        const float part = 1.0f / (float)(across * down), half = four ? 2.0f : 0.0f;
        sum.red = (sum.red + half) * part;
        sum.green = (sum.green + half) * part;
        sum.blue = (sum.blue + half) * part;
        if (four) {
            sum.red = floorf(sum.red);
            sum.green = floorf(sum.green);
            sum.blue = floorf(sum.blue);
        }
    }
    return sum;
}

static __device__ inline void add_if_inside(Pixel& sum, const Frame& frame, int x, int y, float weight) {
    if (x >= 0 && y >= 0 && x < frame.width && y < frame.height && weight > 0.0f) add(sum, pixel(frame, x, y), weight);
}

// The frame at (x, y) between four pixels; black outside.
static __device__ Pixel between(const Frame& frame, float x, float y) {
    Pixel sum = {0.0f, 0.0f, 0.0f};
    const float left = floorf(x), top = floorf(y), right_part = x - left, low_part = y - top;
    if (!(left >= -1.0f && top >= -1.0f && left < frame.width && top < frame.height)) return sum;
    const int column = (int)left, row = (int)top;
    add_if_inside(sum, frame, column, row, (1.0f - right_part) * (1.0f - low_part));
    add_if_inside(sum, frame, column + 1, row, right_part * (1.0f - low_part));
    add_if_inside(sum, frame, column, row + 1, (1.0f - right_part) * low_part);
    add_if_inside(sum, frame, column + 1, row + 1, right_part * low_part);
    return sum;
}

// Where target pixel `index` lies between two source pixels: `near` and the next one, of which it has
// `part` of 2048. OpenCV's way for bytes: places are floats, weights whole numbers.
static __device__ inline void find_place(int index, int source, int target, int& near, int& part) {
    const float place = (float)((2 * index + 1) * source - target) / (float)(2 * target), left = floorf(place);
    near = (int)left;
    part = (int)rintf((place - left) * 2048.0f);
}

static __device__ inline int mixed(float first, float second, int part) {
    return (int)rintf(first) * (2048 - part) + (int)rintf(second) * part;
}

static __device__ inline float mixed_rows(int upper, int lower, int part) {
    return (float)(((((2048 - part) * (upper >> 4)) >> 16) + ((part * (lower >> 4)) >> 16) + 2) >> 2);
}

// Pixel (x, y) of a window, black outside of the frame; beyond the window's edge its last pixel goes on.
static __device__ inline Pixel window_pixel(const Frame& frame, const Window& window, int x, int y) {
    const int column = window.left + min(max(x, 0), window.width - 1), row = window.top + min(max(y, 0), window.height - 1);
    const Pixel black = {0.0f, 0.0f, 0.0f};
    const bool inside = column >= 0 && row >= 0 && column < frame.width && row < frame.height;
    return inside ? pixel(frame, column, row) : black;
}

// Target pixel (x, y) of a window that is enlarged.
static __device__ Pixel bilinear(const Frame& frame, const Window& window, int x, int y, int width, int height) {
    int column, row, across, down;
    find_place(x, window.width, width, column, across);
    find_place(y, window.height, height, row, down);
    const Pixel one = window_pixel(frame, window, column, row), two = window_pixel(frame, window, column + 1, row);
    const Pixel three = window_pixel(frame, window, column, row + 1);
    const Pixel four = window_pixel(frame, window, column + 1, row + 1);
    const Pixel found = {
        mixed_rows(mixed(one.red, two.red, across), mixed(three.red, four.red, across), down),
        mixed_rows(mixed(one.green, two.green, across), mixed(three.green, four.green, across), down),
        mixed_rows(mixed(one.blue, two.blue, across), mixed(three.blue, four.blue, across), down)};
    return found;
}

// Target pixel (x, y) of the resized window, the same on every one of its lanes.
static __device__ Pixel resized(
    const Frame& frame, const Window& window, int x, int y, int width, int height, int lane, int lanes) {
    if (width > window.width || height > window.height) return bilinear(frame, window, x, y, width, height);
    return by_area(frame, window, x, y, width, height, lane, lanes);
}

static __device__ inline void store(void* out, int at, float value, int half) {
    if (!half) {
        ((float*)out)[at] = value;
        return;
    }
    unsigned short bits;
#ifdef __CUDACC__
    asm("{ cvt.rn.f16.f32 %0, %1; }" : "=h"(bits) : "f"(value));  // cuda_fp16.h is not everywhere
#else
    bits = to_half(value);
#endif
    ((unsigned short*)out)[at] = bits;
}

static __device__ inline void store_pixel(void* planes, int at, int plane, const Pixel& value, int half) {
    store(planes, at, (rintf(value.red) - MEAN) * SCALE, half);
    store(planes, at + plane, (rintf(value.green) - MEAN) * SCALE, half);
    store(planes, at + 2 * plane, (rintf(value.blue) - MEAN) * SCALE, half);
}

// Every scale of the frame into its place of the blob (3, blob_height, blob_width). Levels begin on
// whole blocks, so all lanes of a warp belong to one level.
extern "C" __global__ void pyramid(
    const unsigned char* data, int height, int width, int pitch, int format,
    const Level* levels, int count, void* blob, int blob_height, int blob_width, int half) {
    const int thread = blockIdx.x * blockDim.x + threadIdx.x;
    int number = 0;
    while (number + 1 < count && thread >= levels[number + 1].first) ++number;
    const Level level = levels[number];
    const int lanes = LANES(level.lanes), at = (thread - level.first) / lanes, lane = (thread - level.first) % lanes;
    const bool inside = at < level.rows * level.columns;
    if (ALONE && !inside) return;
    const int x = at % level.columns, y = inside ? at / level.columns : 0;
    const Frame frame = {data, height, width, pitch, format};
    const Window all = {0, 0, width, height};
    const Pixel found = resized(frame, all, x, y, level.width, level.height, lane, lanes);
    if (inside && lane == 0)
        store_pixel(blob, (level.top + y) * blob_width + level.left + x,
                    blob_height * blob_width, found, half);
}

// Windows (count, 4: left, top, width, height) of the frame as (count, 3, size, size); one without
// pixels is black.
extern "C" __global__ void crops(
    const unsigned char* data, int height, int width, int pitch, int format,
    const Window* windows, int count, int size, int shared_lanes, void* out, int half) {
    const int lanes = LANES(shared_lanes), area = size * size, share = (area * lanes + WARP - 1) / WARP * WARP;
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, lane = thread % lanes;
    // A warp looks at one window alone; windows beyond the last are looked at, and not stored.
    const bool inside = thread / share < count && thread % share / lanes < area;
    if (ALONE && !inside) return;
    const int number = min(thread / share, count - 1), at = min(thread % share / lanes, area - 1);
    const int y = at / size, x = at % size;
    const Window window = windows[number];
    const Frame frame = {data, height, width, pitch, format};
    Pixel found = {0.0f, 0.0f, 0.0f};
    if (window.width > 0 && window.height > 0)
        found = resized(frame, window, x, y, size, size, lane, lanes);
    if (inside && lane == 0)
        store_pixel(out, number * 3 * area + at, area, found, half);
}

// Aligned faces: BGR bytes (count, size, size, 3) into `chips`, and (count, 3, size, size), RGB,
// (value - mean) / deviation, into `planes`; either may be null. `inverses` (count, 6): from pixels
// of the chip to pixels of the frame.
extern "C" __global__ void chips(
    const unsigned char* data, int height, int width, int pitch, int format,
    const float* inverses, int count, int size, unsigned char* bytes, void* planes, int half,
    float mean_red, float mean_green, float mean_blue, float red_part, float green_part, float blue_part) {
    const int thread = blockIdx.x * blockDim.x + threadIdx.x, area = size * size;
    if (thread >= count * area) return;
    const float* turn = inverses + thread / area * 6;
    const int here = thread % area, x = here % size, y = here / size;
    const Frame frame = {data, height, width, pitch, format};
    const Pixel found = between(frame, turn[0] * x + turn[1] * y + turn[2], turn[3] * x + turn[4] * y + turn[5]);
    const float red = rintf(found.red), green = rintf(found.green), blue = rintf(found.blue);
    if (bytes) {
        bytes[3 * thread] = (unsigned char)blue;
        bytes[3 * thread + 1] = (unsigned char)green;
        bytes[3 * thread + 2] = (unsigned char)red;
    }
    if (planes) {
        const int at = (thread / area) * 3 * area + here;
        store(planes, at, (red - mean_red) / red_part, half);
        store(planes, at + area, (green - mean_green) / green_part, half);
        store(planes, at + 2 * area, (blue - mean_blue) / blue_part, half);
    }
}

// One cell of PNet's map that passed.
struct Candidate {
    int cell;  // in the head of the list: how many passed
    float score, offsets[4];
};

// The cells of a map (height * width = cells) whose score passes and that belong to a level, behind
// the head of `list`, in no order; those beyond `capacity` are counted, not kept.
extern "C" __global__ void candidates(
    const float* scores, const float* offsets, const signed char* levels, int cells, float threshold,
    Candidate* list, int capacity) {
    const int cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= cells || levels[cell] < 0 || !(scores[cell] >= threshold)) return;
    const int place = atomicAdd(&list[0].cell, 1);
    if (place >= capacity) return;
    Candidate* found = list + 1 + place;
    found->cell = cell;
    found->score = scores[cell];
    for (int side = 0; side < 4; ++side) found->offsets[side] = offsets[side * cells + cell];
}
