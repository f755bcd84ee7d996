/* Loops over elements, each for itself. See loops.h. */

static void NAMED(softplus_and_sigmoid)(const float *x, float *above, float *rising, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float z = x[i], positive = z < 0.0f ? 0.0f : z; /* NaN stays */
        float power = NAMED(exp)(z < 0.0f ? z : -z);
        above[i] = positive + NAMED(log1p)(power);
        rising[i] = (z > 0.0f ? 1.0f : power) / (1.0f + power);
    }
}

/* Labels as numbers, 0 where they are not counted, and whether they are. */
static inline void NAMED(targets)(const void *labels, int kind, int64_t start, double ignore, int masks, float *y, float *kept,
                                  int count) {
#define READ(type, wide)                                                                                               \
    {                                                                                                                  \
        const type *from = (const type *)labels + start;                                                               \
        const wide skipped = (wide)ignore;                                                                             \
        for (int i = 0; i < count; i++) {                                                                              \
            float number = (float)from[i];                                                                             \
            int counts = !masks | ((wide)from[i] != skipped);                                                          \
            kept[i] = counts ? 1.0f : 0.0f;                                                                            \
            y[i] = counts ? number : 0.0f;                                                                             \
        }                                                                                                              \
    }
    float wide[BLOCK];
    switch (kind) {
    case UINT16:
    case FLOAT16:
        labels = NAMED(floats)(labels, kind, start, wide, count);
        start = 0; /* fall through */
    case FLOAT32:
        /* Twice as fast as in double. A number that no float32 is differs from all of them. */
        masks &= (double)(float)ignore == ignore;
        READ(float, float)
        break;
    case INT64:
        READ(int64_t, int64_t)
        break;
    case INT32:
        READ(int32_t, int64_t)
        break;
    default:
        READ(uint8_t, int64_t)
    }
#undef READ
}

/* The sum of (v + w y) ((1 - y) z + (1 + g y) softplus(-z)) over the labels that count; with slopes, the derivative of
 * (s + t y) ((1 - y) z + (1 + g y) softplus(-z)) for each. `by` is v, w, g, s, t. */
static double NAMED(binary_cross_entropy)(const void *z, int z_kind, const void *labels, int kind, double ignore,
                                          const float *by, void *slopes, int64_t count_all) {
    const float v = by[0], w = by[1], g = by[2], s = by[3], t = by[4];
    double total = 0.0;
    for (int64_t start = 0; start < count_all; start += BLOCK) {
        int count = (int)(count_all - start < BLOCK ? count_all - start : BLOCK);
        float y[BLOCK], kept[BLOCK], loss[BLOCK], wide[BLOCK], room[BLOCK], *slope = NAMED(place)(slopes, z_kind, start, room);
        const float *numbers = NAMED(floats)(z, z_kind, start, wide, count);
        NAMED(targets)(labels, kind, start, ignore, 1, y, kept, count);
        for (int i = 0; i < count; i++) {
            float x = numbers[i], power = NAMED(exp)(x > 0.0f ? -x : x), factor = FMA(g, y[i], 1.0f), away = 1.0f - y[i];
            float above = (x > 0.0f ? 0.0f : -x) + NAMED(log1p)(power);
            float rising = (x < 0.0f ? 1.0f : power) / (1.0f + power);
            float found = FMA(w, y[i], v) * FMA(away, x, factor * above);
            float falls = FMA(t, y[i], s) * FMA(-factor, rising, away);
            loss[i] = kept[i] != 0.0f ? found : 0.0f;
            slope[i] = kept[i] != 0.0f ? falls : 0.0f;
        }
        total += NAMED(sum)(loss, count);
        NAMED(round_block)(room, slopes, z_kind, start, count);
    }
    return total;
}

/* The sum of |z - y| or (z - y)^2 over the labels that count; with slopes, the derivative of each times `by`. */
static double NAMED(differences)(const void *z, int z_kind, const void *labels, int kind, double ignore, int masks, int squares,
                                 float by, void *slopes, int64_t count_all) {
    double total = 0.0;
    for (int64_t start = 0; start < count_all; start += BLOCK) {
        int count = (int)(count_all - start < BLOCK ? count_all - start : BLOCK);
        float y[BLOCK], kept[BLOCK], loss[BLOCK], wide[BLOCK], room[BLOCK], *slope = NAMED(place)(slopes, z_kind, start, room);
        const float *numbers = NAMED(floats)(z, z_kind, start, wide, count);
        NAMED(targets)(labels, kind, start, ignore, masks, y, kept, count);
        for (int i = 0; i < count; i++) {
            float difference = numbers[i] - y[i], d = kept[i] != 0.0f ? difference : 0.0f;
            float away = d < 0.0f ? -d : d, sign = d > 0.0f ? 1.0f : d;
            sign = d < 0.0f ? -1.0f : sign;
            loss[i] = squares ? d * d : away;
            slope[i] = by * (squares ? 2.0f * d : sign);
        }
        total += NAMED(sum)(loss, count);
        NAMED(round_block)(room, slopes, z_kind, start, count);
    }
    return total;
}
