/* Loops between half precision and float32, by the bits. See loops.h. */

/* bfloat16 as float32: the same bits, and sixteen zeros. */
static void NAMED(widen_bfloat16)(const uint16_t *x, float *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)x[i] << 16;
        memcpy(out + i, &bits, sizeof bits);
    }
}

/* float32 as bfloat16, rounded to nearest, ties to even; NaN stays NaN. */
static void NAMED(narrow_bfloat16)(const float *x, uint16_t *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        uint32_t near = (bits + (0x7FFFu + (bits >> 16 & 1u))) >> 16;
        out[i] = (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : near);
    }
}

static void NAMED(widen_float16)(const uint16_t *x, float *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t half = x[i], magnitude = half & 0x7FFFu;
        /* The exponent's bias is 112 larger; infinity and NaN have the largest exponent there too. */
        uint32_t bits = (magnitude << 13) + 0x38000000u;
        bits += magnitude >= 0x7C00u ? 0x38000000u : 0u;
        float small = (float)(int32_t)magnitude * 5.9604644775390625e-8f; /* denormal: multiples of 2^-24 */
        uint32_t small_bits;
        memcpy(&small_bits, &small, sizeof small_bits);
        bits = (magnitude < 0x0400u ? small_bits : bits) | (half & 0x8000u) << 16;
        memcpy(out + i, &bits, sizeof bits);
    }
}

/* Rounded to nearest, ties to even; what is too large becomes infinity. */
static void NAMED(narrow_float16)(const float *x, uint16_t *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        uint32_t magnitude = bits & 0x7FFFFFFFu;
        uint32_t normal = (magnitude - 0x38000000u + 0x0FFFu + (magnitude >> 13 & 1u)) >> 13;
        /* Added to a half, a number below 2^-14 is rounded to multiples of 2^-24, which its last bits count. */
        float shifted;
        memcpy(&shifted, &magnitude, sizeof shifted);
        shifted += 0.5f;
        uint32_t small;
        memcpy(&small, &shifted, sizeof small);
        small -= 0x3F000000u;
        uint32_t found = magnitude < 0x38800000u ? small : normal;
        found = magnitude >= 0x47800000u ? 0x7C00u : found;
        found = magnitude > 0x7F800000u ? 0x7E00u : found;
        out[i] = (uint16_t)(found | (bits >> 16 & 0x8000u));
    }
}

/* A block of numbers of any floating kind; bfloat16 comes as its bits. `room` is used where they are not float32. */
static inline const float *NAMED(floats)(const void *x, int kind, int64_t start, float *room, int count) {
    switch (kind) {
    case UINT16:
        NAMED(widen_bfloat16)((const uint16_t *)x + start, room, count);
        return room;
    case FLOAT16:
        NAMED(widen_float16)((const uint16_t *)x + start, room, count);
        return room;
    default:
        return (const float *)x + start;
    }
}

/* Where a block of float32 goes to: `room`, if it must be rounded afterwards or nobody wants it. */
static inline float *NAMED(place)(void *x, int kind, int64_t start, float *room) {
    return x && kind == FLOAT32 ? (float *)x + start : room;
}

static inline void NAMED(round_block)(const float *room, void *x, int kind, int64_t start, int count) {
    if (x && kind == UINT16) NAMED(narrow_bfloat16)(room, (uint16_t *)x + start, count);
    if (x && kind == FLOAT16) NAMED(narrow_float16)(room, (uint16_t *)x + start, count);
}
