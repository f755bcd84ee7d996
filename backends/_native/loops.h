/* Loops over float32 pixels. Compiled once for each instruction set: NAMED(x) is the name of x in this one.
 *
 * Rows are channels: x + c * step is channel c, whose pixels are neighbours in memory. No loop asks Python for anything, and
 * none reads outside of what the caller has checked; an index out of range is counted, not followed.
 */

/* Pixels of a block, whose sums stay in the first-level cache while all channels pass. */
#define BLOCK 512

/* exp(x) for x <= 0, within one ulp; NaN stays NaN. 2^n is two factors, so that denormal results come out right. */
static inline float NAMED(exp)(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer */
    x = x < -105.0f ? -105.0f : x;
    float shifted = x * 1.44269504088896341f + magic;
    float n = shifted - magic;
    /* ln 2 in two parts, the first with so few digits that n times it is exact. */
    float r = x - n * 0.693145751953125f;
    r = r - n * 1.428606765330187e-06f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    int32_t whole = bits - 0x4B400000, half = whole >> 1;
    int32_t first_bits = (int32_t)((uint32_t)(half + 127) << 23);
    int32_t second_bits = (int32_t)((uint32_t)(whole - half + 127) << 23);
    float first, second;
    memcpy(&first, &first_bits, sizeof first);
    memcpy(&second, &second_bits, sizeof second);
    return p * first * second;
}

/* log(1 + e) for e in [0, 1]: 2 artanh(e / (2 + e)), a series in the square of a number that is at most 1/3. */
static inline float NAMED(log1p)(float e) {
    float s = e / (2.0f + e), q = s * s;
    float p = 1.0f / 13.0f;
    p = p * q + 1.0f / 11.0f;
    p = p * q + 1.0f / 9.0f;
    p = p * q + 1.0f / 7.0f;
    p = p * q + 1.0f / 5.0f;
    p = p * q + 1.0f / 3.0f;
    return 2.0f * s + 2.0f * s * q * p;
}

/* log(x) for finite x >= 1: the same series for the fraction, in [1/sqrt 2, sqrt 2), and n times ln 2. */
static inline float NAMED(log)(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t n = (bits - 0x3F3504F3) >> 23;
    int32_t fraction_bits = bits - (int32_t)((uint32_t)n << 23);
    float fraction;
    memcpy(&fraction, &fraction_bits, sizeof fraction);
    float s = (fraction - 1.0f) / (fraction + 1.0f), q = s * s, whole = (float)n;
    float p = 1.0f / 9.0f;
    p = p * q + 1.0f / 7.0f;
    p = p * q + 1.0f / 5.0f;
    p = p * q + 1.0f / 3.0f;
    float found = whole * 0.693145751953125f + (2.0f * s + (2.0f * s * q * p + whole * 1.428606765330187e-06f));
    return x < 3.0e38f ? found : x; /* infinity and NaN */
}

/* Of one block: the largest of each pixel, exp of what is below it, and the sum of those. */
static inline void NAMED(block)(const float *z, int64_t z_step, float *powers, int64_t powers_step, float *sum, float *largest,
                                int64_t channels, int count) {
    for (int i = 0; i < count; i++) {
        largest[i] = z[i];
        sum[i] = 0.0f;
    }
    for (int64_t c = 1; c < channels; c++) {
        const float *row = z + c * z_step;
        /* Not <=: a NaN in either stays, and so every power of its pixel is NaN, as in the fallback. */
        for (int i = 0; i < count; i++) largest[i] = (row[i] > largest[i]) | (row[i] != row[i]) ? row[i] : largest[i];
    }
    for (int64_t c = 0; c < channels; c++) {
        const float *row = z + c * z_step;
        if (powers) {
            float *out = powers + c * powers_step;
            for (int i = 0; i < count; i++) {
                float power = NAMED(exp)(row[i] - largest[i]);
                out[i] = power;
                sum[i] += power;
            }
        } else {
            for (int i = 0; i < count; i++) sum[i] += NAMED(exp)(row[i] - largest[i]);
        }
    }
}

static void NAMED(softmax_parts)(const float *z, int64_t z_step, float *powers, int64_t powers_step, float *norm, float *top,
                                 int64_t channels, int64_t pixels) {
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        float largest[BLOCK], sum[BLOCK];
        NAMED(block)(z + start, z_step, powers ? powers + start : NULL, powers_step, sum, largest, channels, count);
        memcpy(norm + start, sum, (size_t)count * sizeof(float));
        memcpy(top + start, largest, (size_t)count * sizeof(float));
    }
}

/* losses = logsumexp(z) - z[index]; with slopes, slopes = weights * (softmax(z) - onehot(index)). How many indices are out of
 * range. */
static int64_t NAMED(cross_entropy)(const float *z, int64_t z_step, const void *index, int kind, float *losses,
                                    const float *weights, float *slopes, int64_t slopes_step, int64_t channels, int64_t pixels) {
    int64_t wrong = 0;
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        float largest[BLOCK], sum[BLOCK], picked[BLOCK];
        int64_t place[BLOCK];
        NAMED(block)(z + start, z_step, slopes ? slopes + start : NULL, slopes_step, sum, largest, channels, count);
        for (int i = 0; i < count; i++) {
            int64_t at = label_at(index, kind, start + i);
            int outside = (uint64_t)at >= (uint64_t)channels;
            wrong += outside;
            place[i] = outside ? 0 : at;
            picked[i] = z[place[i] * z_step + start + i];
        }
        for (int i = 0; i < count; i++) losses[start + i] = NAMED(log)(sum[i]) - (picked[i] - largest[i]);
        if (!slopes) continue;
        for (int i = 0; i < count; i++) sum[i] = weights[start + i] / sum[i];
        for (int64_t c = 0; c < channels; c++) {
            float *out = slopes + c * slopes_step + start;
            for (int i = 0; i < count; i++) out[i] *= sum[i];
        }
        for (int i = 0; i < count; i++) slopes[place[i] * slopes_step + start + i] -= weights[start + i];
    }
    return wrong;
}

static void NAMED(softplus_and_sigmoid)(const float *x, float *above, float *rising, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float z = x[i], positive = z < 0.0f ? 0.0f : z; /* NaN stays */
        float power = NAMED(exp)(z < 0.0f ? z : -z);
        above[i] = positive + NAMED(log1p)(power);
        rising[i] = (z > 0.0f ? 1.0f : power) / (1.0f + power);
    }
}

/* In double: the order of the terms is fixed, sixteen sums side by side. */
static double NAMED(sum)(const float *x, int64_t count) {
    double sums[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (int lane = 0; lane < 16; lane++) sums[lane] += (double)x[i + lane];
    for (; i < count; i++) sums[0] += (double)x[i];
    double total = 0.0;
    for (int lane = 0; lane < 16; lane++) total += sums[lane];
    return total;
}

/* Keys that ascend as x descends, equal ones by their place; both zeros are equal. */
static void NAMED(descending_keys)(const float *x, uint64_t *keys, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float number = x[i] + 0.0f;
        uint32_t bits;
        memcpy(&bits, &number, sizeof bits);
        uint32_t rising = (uint32_t)((int32_t)bits >> 31);
        keys[i] = (uint64_t)(bits ^ (~rising & 0x7FFFFFFFu)) << 32 | (uint32_t)i;
    }
}

/* Labels as numbers, 0 where they are not counted, and whether they are. */
static inline void NAMED(targets)(const void *labels, int kind, int64_t start, double ignore, int masks, float *y, float *kept,
                                  int count) {
#define READ(type)                                                                                                     \
    {                                                                                                                  \
        const type *from = (const type *)labels + start;                                                               \
        for (int i = 0; i < count; i++) {                                                                              \
            float number = (float)from[i];                                                                             \
            int counts = !masks | ((double)from[i] != ignore);                                                         \
            kept[i] = counts ? 1.0f : 0.0f;                                                                            \
            y[i] = counts ? number : 0.0f;                                                                             \
        }                                                                                                              \
    }
    switch (kind) {
    case FLOAT32:
        READ(float)
        break;
    case INT64:
        READ(int64_t)
        break;
    case INT32:
        READ(int32_t)
        break;
    default:
        READ(uint8_t)
    }
#undef READ
}

/* The sum of (v + w y) ((1 - y) z + (f + g y) softplus(-z)) over the labels that count; with slopes, the derivative of
 * (s + t y) ((1 - y) z + (f + g y) softplus(-z)) for each. `by` is v, w, f, g, s, t. */
static double NAMED(binary_cross_entropy)(const float *z, const void *labels, int kind, double ignore, const float *by,
                                          float *slopes, int64_t count_all) {
    const float v = by[0], w = by[1], f = by[2], g = by[3], s = by[4], t = by[5];
    double total = 0.0;
    for (int64_t start = 0; start < count_all; start += BLOCK) {
        int count = (int)(count_all - start < BLOCK ? count_all - start : BLOCK);
        float y[BLOCK], kept[BLOCK], loss[BLOCK], slope[BLOCK];
        NAMED(targets)(labels, kind, start, ignore, 1, y, kept, count);
        for (int i = 0; i < count; i++) {
            float x = z[start + i], power = NAMED(exp)(x > 0.0f ? -x : x), factor = f + g * y[i], away = 1.0f - y[i];
            float above = (x > 0.0f ? 0.0f : -x) + NAMED(log1p)(power);
            float rising = (x < 0.0f ? 1.0f : power) / (1.0f + power);
            float found = (v + w * y[i]) * (away * x + factor * above), falls = (s + t * y[i]) * (away - factor * rising);
            loss[i] = kept[i] != 0.0f ? found : 0.0f;
            slope[i] = kept[i] != 0.0f ? falls : 0.0f;
        }
        total += NAMED(sum)(loss, count);
        if (slopes) memcpy(slopes + start, slope, (size_t)count * sizeof(float));
    }
    return total;
}

/* The sum of |z - y| or (z - y)^2 over the labels that count; with slopes, the derivative of each times `by`. */
static double NAMED(differences)(const float *z, const void *labels, int kind, double ignore, int masks, int squares, float by,
                                 float *slopes, int64_t count_all) {
    double total = 0.0;
    for (int64_t start = 0; start < count_all; start += BLOCK) {
        int count = (int)(count_all - start < BLOCK ? count_all - start : BLOCK);
        float y[BLOCK], kept[BLOCK], loss[BLOCK];
        NAMED(targets)(labels, kind, start, ignore, masks, y, kept, count);
        for (int i = 0; i < count; i++) {
            float difference = z[start + i] - y[i], d = kept[i] != 0.0f ? difference : 0.0f;
            float away = d < 0.0f ? -d : d, sign = d > 0.0f ? 1.0f : d;
            sign = d < 0.0f ? -1.0f : sign;
            loss[i] = squares ? d * d : away;
            y[i] = by * (squares ? 2.0f * d : sign);
        }
        total += NAMED(sum)(loss, count);
        if (slopes) memcpy(slopes + start, y, (size_t)count * sizeof(float));
    }
    return total;
}

/* Along sorted keys (see descending_keys) the steps of the Jaccard loss, each at its own pixel. How many keys name no pixel. */
static int64_t NAMED(jaccard_steps)(const uint64_t *keys, const uint8_t *foreground, float *steps, int64_t pixels) {
    int64_t whole = 0, found = 0, wrong = 0;
    for (int64_t i = 0; i < pixels; i++) whole += foreground[i];
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        uint32_t place[BLOCK];
        float hit[BLOCK], left[BLOCK], step[BLOCK];
        int32_t background[BLOCK];
        for (int i = 0; i < count; i++) {
            place[i] = (uint32_t)keys[start + i];
            int outside = (int64_t)place[i] >= pixels;
            wrong += outside;
            place[i] = outside ? 0 : place[i];
            int is_hit = foreground[place[i]];
            found += is_hit;
            hit[i] = (float)is_hit;
            left[i] = (float)(whole - found);
            background[i] = (int32_t)(start + i + 1 - found);
        }
        for (int i = 0; i < count; i++) {
            float all = (float)(whole + background[i]);
            float before = all - 1.0f < 1.0f ? 1.0f : all - 1.0f;
            float quotient = left[i] / before;
            step[i] = (hit[i] != 0.0f ? 1.0f : quotient) / all;
        }
        /* Without foreground the loss jumps to 1 at the first pixel. */
        if (start == 0 && whole == 0 && count) step[0] = 1.0f;
        for (int i = 0; i < count; i++) steps[place[i]] = step[i];
    }
    return wrong;
}

#undef BLOCK
