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

/* Adds up how many labels count, and of those how many are 1, are 0, and lie outside [0, most]. */
static void NAMED(tally)(const void *labels, int kind, double ignore, int masks, double most, int64_t *counts, int64_t count) {
    const int64_t ignored = (int64_t)ignore, largest = (int64_t)most;
    const int none_fits = most < 0.0;
#define ADD(at, lane, outside)                                                                                         \
    {                                                                                                                  \
        Label label = from[at];                                                                                        \
        Counter counts_here = (Counter)(!masks | (label != skipped));                                                  \
        all[lane] += counts_here;                                                                                      \
        ones[lane] += (Counter)(counts_here & (label == 1));                                                           \
        zeros[lane] += (Counter)(counts_here & (label == 0));                                                          \
        others[lane] += (Counter)(counts_here & (outside));                                                            \
    }
/* In as many counters as labels fill a vector, each of a label's width: in a round they do not overflow. */
#define COUNT(outside)                                                                                                 \
    {                                                                                                                  \
        enum { LANES = sizeof(Label) == 8 ? 32 : 64 / sizeof(Label), ROUND = LANES * 128 };                                                      \
        const Label *from = (const Label *)labels;                                                                     \
        for (int64_t start = 0; start < count; start += ROUND) {                                                       \
            int64_t end = count - start < ROUND ? count : start + ROUND, at = start;                                   \
            Counter all[LANES] = {0}, ones[LANES] = {0}, zeros[LANES] = {0}, others[LANES] = {0};                      \
            for (; at + LANES <= end; at += LANES)                                                                     \
                for (int lane = 0; lane < LANES; lane++) ADD(at + lane, lane, outside)                                 \
            for (; at < end; at++) ADD(at, 0, outside)                                                                 \
            for (int lane = 0; lane < LANES; lane++) {                                                                 \
                counts[0] += (int64_t)all[lane];                                                                       \
                counts[1] += (int64_t)ones[lane];                                                                      \
                counts[2] += (int64_t)zeros[lane];                                                                     \
                counts[3] += (int64_t)others[lane];                                                                    \
            }                                                                                                          \
        }                                                                                                              \
    }
/* A number that the labels' dtype cannot hold differs from all of them, and is larger than all if it is positive. */
#define COUNT_INTEGERS(label_type, counter_type, largest_label)                                                        \
    {                                                                                                                  \
        typedef label_type Label;                                                                                      \
        typedef counter_type Counter;                                                                                  \
        const Label skipped = (Label)ignored;                                                                          \
        const Counter last = (Counter)(largest < largest_label ? largest : largest_label);                             \
        masks &= (int64_t)skipped == ignored;                                                                          \
        COUNT(((Counter)label > last) | none_fits)                                                                     \
    }
    switch (kind) {
    case FLOAT32: {
        typedef float Label;
        typedef uint32_t Counter;
        const float skipped = (float)ignore, near = (float)most;
        const float last = (double)near > most ? nextafterf(near, -INFINITY) : near;
        masks &= (double)skipped == ignore;
        COUNT(!((label >= 0.0f) & (label <= last)))
        break;
    }
    case INT64:
        COUNT_INTEGERS(int64_t, uint64_t, INT64_MAX)
        break;
    case INT32:
        COUNT_INTEGERS(int32_t, uint32_t, INT32_MAX)
        break;
    case INT16:
        COUNT_INTEGERS(int16_t, uint16_t, INT16_MAX)
        break;
    default:
        COUNT_INTEGERS(uint8_t, uint8_t, UINT8_MAX)
    }
#undef ADD
#undef COUNT
#undef COUNT_INTEGERS
}
