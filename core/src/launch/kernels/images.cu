// Images as they arrive - bytes - to what the stem reads: normalised, flipped, mixed with their partners.
//
// HEIGHT, WIDTH, IMAGE_CHANNELS, THREADS. One thread a value.

constexpr int LINE = WIDTH * IMAGE_CHANNELS;
constexpr int IMAGE = HEIGHT * LINE;

// What a batch's samples are mixed by: share of a sample against that of its partner, outside of the box; inside, the
// partner's pixels.
struct Mix {
    float share;
    float top, bottom, left, right;
};

// out [N, HEIGHT, WIDTH, IMAGE_CHANNELS] of bytes of that shape. table [IMAGE_CHANNELS, 256] says what a byte becomes;
// flips [N]: 1 mirrors left to right. Sample n's partner is N - 1 - n.
extern "C" __global__ void __launch_bounds__(THREADS)
    prepare_images(const u8 *__restrict__ bytes, const float *__restrict__ table, const u8 *__restrict__ flips,
                   const Mix *__restrict__ mix, float *__restrict__ out, int samples) {
    const size_t end = (size_t)samples * IMAGE, stride = (size_t)gridDim.x * THREADS;
    const Mix how = *mix;
    for (size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x; at < end; at += stride) {
        const int sample = (int)(at / IMAGE), inside = (int)(at % IMAGE);
        const int y = inside / LINE, x = inside % LINE / IMAGE_CHANNELS, c = inside % IMAGE_CHANNELS;
        auto pixel = [=](int of) {
            const int column = flips[of] ? WIDTH - 1 - x : x;
            return table[c * 256 + bytes[(size_t)of * IMAGE + y * LINE + column * IMAGE_CHANNELS + c]];
        };
        const int partner = samples - 1 - sample;
        const bool boxed = (float)y >= how.top && (float)y < how.bottom && (float)x >= how.left && (float)x < how.right;
        float value = pixel(boxed ? partner : sample);
        // A share of 1 leaves the sample alone, and its partner unread.
        if (how.share != 1.0f) value = how.share * value + (1.0f - how.share) * pixel(boxed ? sample : partner);
        out[at] = value;
    }
}
