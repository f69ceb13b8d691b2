// Paste and quantize in one pass: a clean image in, the engine's input codes out.
//
// Equals qadtr_edge/patch/paste.py byte for byte, followed by `byte ^ flip` (0x80 makes int8 codes of
// zero point 128, 0 leaves bytes). The map is signed 16.16 fixed point; its coefficients are computed
// once per image on the host, so only integers are added and shifted here.
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
};

// Patch pixel that pixel (row, column) of an image shows, or -1: a, b, u, v and the window's corner.
WHERE int32_t source_of(const Layout& is, const int32_t* affine, const int32_t* corner,
                        const uint8_t* mask, int32_t row, int32_t column) {
    const int32_t down_in = row - corner[0], across_in = column - corner[1];
    if (down_in < 0 || down_in >= is.window_height || across_in < 0 || across_in >= is.window_width)
        return -1;
    const int32_t a = affine[0], b = affine[1], u = affine[2], v = affine[3];
    const int32_t across = (u + a * column) - b * row, down = (v + a * row) + b * column;
    // A negative coordinate read as unsigned is huge: one comparison tests both ends.
    if ((uint32_t)across >= (uint32_t)is.patch_width << 16) return -1;
    if ((uint32_t)down >= (uint32_t)is.patch_height << 16) return -1;
    const int32_t source = (down >> 16) * is.patch_width + (across >> 16);
    return mask[source] ? source : -1;
}

WHERE void paste_pixel(const Layout& is, const uint8_t* images, const uint8_t* patches,
                       const uint8_t* mask, const int32_t* affine, const int32_t* corners,
                       uint8_t* codes, int64_t index) {
    const int64_t plane = (int64_t)is.height * is.width;
    const int32_t image = (int32_t)(index / plane);
    const int32_t within = (int32_t)(index % plane);
    const int32_t source = source_of(is, affine + 4 * image, corners + 2 * image, mask,
                                     within / is.width, within % is.width);
    const uint8_t* patch = patches + (int64_t)is.patch_stride * image;
    const int32_t patch_plane = is.patch_height * is.patch_width;
    for (int32_t channel = 0; channel < 3; ++channel) {
        const int64_t at = (3 * (int64_t)image + channel) * plane + within;
        const uint8_t byte = source < 0 ? images[at] : patch[channel * patch_plane + source];
        codes[at] = byte ^ (uint8_t)is.flip;
    }
}

#ifdef __CUDACC__
extern "C" __global__ void paste_codes(Layout is, const uint8_t* images, const uint8_t* patches,
                                       const uint8_t* mask, const int32_t* affine,
                                       const int32_t* corners, uint8_t* codes) {
    const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < (int64_t)is.images * is.height * is.width)
        paste_pixel(is, images, patches, mask, affine, corners, codes, index);
}
#else
extern "C" void paste_codes_host(Layout is, const uint8_t* images, const uint8_t* patches,
                                 const uint8_t* mask, const int32_t* affine,
                                 const int32_t* corners, uint8_t* codes) {
    for (int64_t index = 0; index < (int64_t)is.images * is.height * is.width; ++index)
        paste_pixel(is, images, patches, mask, affine, corners, codes, index);
}
#endif
