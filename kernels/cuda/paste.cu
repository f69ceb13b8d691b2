// Paste and quantize in one pass: a clean image in, the engine's input codes out.
//
// Equals qadtr_edge/patch/paste.py byte for byte, followed by `byte ^ flip` (0x80 makes int8 codes of
// zero point 128, 0 leaves bytes). The map is signed 16.16 fixed point; its coefficients are computed
// once per image on the host, so only integers are computed with here. A row of them is one image's:
// a, b, u, v, or the nine of a patch in perspective, and then its light: contrast and brightness in
// 256ths (patch/perspective.py, patch/light.py).
//
// The same text compiles as C++ (`paste_codes_host`), which is how it is held to its reference on
// machines without a GPU.

#include <stdint.h>

#ifdef __CUDACC__
#define WHERE __host__ __device__ __forceinline__
#else
#define WHERE static inline
#endif

struct Layout {
    int32_t images, height, width;         // of the batch
    int32_t patch_height, patch_width;     // rows and columns of the patch
    int32_t window_height, window_width;   // of the part of each image that may be covered
    int32_t patch_stride;                  // bytes from one image's patch to the next; 0: one for all
    int32_t flip;                          // xor of every byte on its way out
    int32_t row_length;                    // numbers a row of coefficients holds
};

#define LIGHT_NUMBERS 2
#define FLAT_NUMBERS (4 + LIGHT_NUMBERS)
#define DEPTH_BITS 22

// Patch pixel at a pixel of the image seen straight on, or -1. The map is a, b, u, v.
WHERE int32_t flat_source(const Layout& is, const int32_t* map, int32_t row, int32_t column) {
    const int32_t a = map[0], b = map[1], u = map[2], v = map[3];
    const int32_t across = (u + a * column) - b * row, down = (v + a * row) + b * column;
    // A negative coordinate read as unsigned is huge: one comparison tests both ends.
    if ((uint32_t)across >= (uint32_t)is.patch_width << 16) return -1;
    if ((uint32_t)down >= (uint32_t)is.patch_height << 16) return -1;
    return (down >> 16) * is.patch_width + (across >> 16);
}

// The same in perspective: two numerators in 16.16 over a depth in 10.22.
WHERE int32_t tilted_source(const Layout& is, const int32_t* map, int32_t row, int32_t column) {
    int64_t value[3];
    for (int32_t part = 0; part < 3; ++part)
        value[part] = (int64_t)map[3 * part] * column + (int64_t)map[3 * part + 1] * row +
                      map[3 * part + 2];
    const int64_t across = value[0], down = value[1], depth = value[2];
    if (depth <= 0 || across < 0 || down < 0) return -1;
    if (across << (DEPTH_BITS - 16) >= is.patch_width * depth) return -1;
    if (down << (DEPTH_BITS - 16) >= is.patch_height * depth) return -1;
    return (int32_t)((down << DEPTH_BITS) / depth >> 16) * is.patch_width +
           (int32_t)((across << DEPTH_BITS) / depth >> 16);
}

// Patch pixel that pixel (row, column) of an image shows, or -1.
WHERE int32_t source_of(const Layout& is, const int32_t* map, const int32_t* corner,
                        const uint8_t* mask, int32_t row, int32_t column) {
    const int32_t down_in = row - corner[0], across_in = column - corner[1];
    if (down_in < 0 || down_in >= is.window_height || across_in < 0 || across_in >= is.window_width)
        return -1;
    const int32_t source = is.row_length == FLAT_NUMBERS ? flat_source(is, map, row, column)
                                                         : tilted_source(is, map, row, column);
    return source >= 0 && mask[source] ? source : -1;
}

// A byte of the patch in the light of its image: multiplied, shifted, halves rounded up.
WHERE uint8_t lit(uint8_t byte, const int32_t* light) {
    const int32_t shown = (light[0] * byte + light[1] + 128) >> 8;
    return (uint8_t)(shown < 0 ? 0 : shown > 255 ? 255 : shown);
}

WHERE void paste_pixel(const Layout& is, const uint8_t* images, const uint8_t* patches,
                       const uint8_t* mask, const int32_t* maps, const int32_t* corners,
                       uint8_t* codes, int64_t index) {
    const int64_t plane = (int64_t)is.height * is.width;
    const int32_t image = (int32_t)(index / plane);
    const int32_t within = (int32_t)(index % plane);
    const int32_t* map = maps + (int64_t)is.row_length * image;
    const int32_t source = source_of(is, map, corners + 2 * image, mask, within / is.width,
                                     within % is.width);
    const int32_t* light = map + is.row_length - LIGHT_NUMBERS;
    const uint8_t* patch = patches + (int64_t)is.patch_stride * image;
    const int32_t patch_plane = is.patch_height * is.patch_width;
    for (int32_t channel = 0; channel < 3; ++channel) {
        const int64_t at = (3 * (int64_t)image + channel) * plane + within;
        const uint8_t byte =
            source < 0 ? images[at] : lit(patch[channel * patch_plane + source], light);
        codes[at] = byte ^ (uint8_t)is.flip;
    }
}

#ifdef __CUDACC__
extern "C" __global__ void paste_codes(Layout is, const uint8_t* images, const uint8_t* patches,
                                       const uint8_t* mask, const int32_t* maps,
                                       const int32_t* corners, uint8_t* codes) {
    const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < (int64_t)is.images * is.height * is.width)
        paste_pixel(is, images, patches, mask, maps, corners, codes, index);
}
#else
extern "C" void paste_codes_host(Layout is, const uint8_t* images, const uint8_t* patches,
                                 const uint8_t* mask, const int32_t* maps,
                                 const int32_t* corners, uint8_t* codes) {
    for (int64_t index = 0; index < (int64_t)is.images * is.height * is.width; ++index)
        paste_pixel(is, images, patches, mask, maps, corners, codes, index);
}
#endif
