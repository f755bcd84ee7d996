/* Loops that add up how many labels count, and of those how many are 1, are 0, and lie outside [0, most]. See loops.h. */

#define COUNT_ONE(label_type, counter, at, lane, outside)                                                              \
    {                                                                                                                  \
        label_type label = labels[at];                                                                                 \
        counter counts_here = (counter)(!masks | (label != skipped));                                                  \
        all[lane] += counts_here;                                                                                      \
        ones[lane] += (counter)(counts_here & (label == 1));                                                           \
        zeros[lane] += (counter)(counts_here & (label == 0));                                                          \
        others[lane] += (counter)(counts_here & (outside));                                                            \
    }
/* In as many counters as labels fill a vector, each of a label's width, which the labels of a round do not overflow. */
#define COUNT_ALL(label_type, counter, outside)                                                                        \
    enum { LANES = 64 / sizeof(label_type), ROUND = LANES * 128 };                                                     \
    for (int64_t start = 0; start < count; start += ROUND) {                                                           \
        int64_t end = count - start < ROUND ? count : start + ROUND, at = start;                                       \
        counter all[LANES] = {0}, ones[LANES] = {0}, zeros[LANES] = {0}, others[LANES] = {0};                          \
        for (; at + LANES <= end; at += LANES)                                                                         \
            for (int lane = 0; lane < LANES; lane++) COUNT_ONE(label_type, counter, at + lane, lane, outside)          \
        for (; at < end; at++) COUNT_ONE(label_type, counter, at, 0, outside)                                          \
        for (int lane = 0; lane < LANES; lane++) {                                                                     \
            counts[0] += (int64_t)all[lane];                                                                           \
            counts[1] += (int64_t)ones[lane];                                                                          \
            counts[2] += (int64_t)zeros[lane];                                                                         \
            counts[3] += (int64_t)others[lane];                                                                        \
        }                                                                                                              \
    }

/* A number that no byte is differs from all of them. */
static void NAMED(tally_bytes)(const uint8_t *labels, int64_t ignore, int masks, int64_t most, int64_t *counts, int64_t count) {
    const uint8_t skipped = (uint8_t)ignore, last = (uint8_t)(most < 255 ? most : 255);
    const int none = most < 0;
    masks &= skipped == ignore;
    COUNT_ALL(uint8_t, uint8_t, (label > last) | none)
}

/* How many of them are 1 where all others are 0; -1 where not. */
static inline int64_t NAMED(ones_of)(const float *labels, int64_t count) {
    int32_t ones = 0, others = 0;
    for (int64_t i = 0; i < count; i++) {
        ones += labels[i] == 1.0f;
        others |= !((labels[i] == 1.0f) | (labels[i] == 0.0f));
    }
    return others ? -1 : ones;
}

static void NAMED(tally_any_floats)(const float *labels, double ignore, int masks, double most, int64_t *counts, int64_t count) {
    const float skipped = (float)ignore, near = (float)most, last = (double)near > most ? nextafterf(near, -INFINITY) : near;
    masks &= (double)skipped == ignore;
    COUNT_ALL(float, uint32_t, !((label >= 0.0f) & (label <= last)))
}

/* They are 0 and 1 for the most part: a piece of these is counted as such, until there is one that has others. */
static void NAMED(tally_floats)(const float *labels, double ignore, int masks, double most, int64_t *counts, int64_t all) {
    enum { PIECE = 4096 };
    int64_t start = 0;
    for (; most >= 1.0 && !(masks & ((ignore == 0.0) | (ignore == 1.0))) && start < all; start += PIECE) {
        int64_t count = all - start < PIECE ? all - start : PIECE, ones = NAMED(ones_of)(labels + start, count);
        if (ones < 0) break;
        counts[0] += count;
        counts[1] += ones;
        counts[2] += count - ones;
    }
    if (start < all) NAMED(tally_any_floats)(labels + start, ignore, masks, most, counts, all - start);
}

/* Labels are bytes for the most part: a piece of wider ones is counted as such if all of it are. */
#define TALLY_OF(type)                                                                                                 \
    static void NAMED(tally_##type)(const type *labels, int64_t ignore, int masks, int64_t most, int64_t *counts,      \
                                    int64_t all) {                                                                     \
        enum { PIECE = 4096 };                                                                                         \
        for (int64_t start = 0; start < all; start += PIECE) {                                                         \
            int count = (int)(all - start < PIECE ? all - start : PIECE);                                              \
            uint8_t bytes[PIECE];                                                                                      \
            type together = 0;                                                                                         \
            for (int i = 0; i < count; i++) {                                                                          \
                together |= labels[start + i];                                                                         \
                bytes[i] = (uint8_t)labels[start + i];                                                                 \
            }                                                                                                          \
            if (together >= 0 && together <= 255) {                                                                    \
                NAMED(tally_bytes)(bytes, ignore, masks, most, counts, count);                                         \
                continue;                                                                                              \
            }                                                                                                          \
            for (int i = 0; i < count; i++) {                                                                          \
                int64_t label = (int64_t)labels[start + i];                                                            \
                int counts_here = !masks | (label != ignore);                                                          \
                counts[0] += counts_here;                                                                              \
                counts[1] += counts_here & (label == 1);                                                               \
                counts[2] += counts_here & (label == 0);                                                               \
                counts[3] += counts_here & !((label >= 0) & (label <= most));                                          \
            }                                                                                                          \
        }                                                                                                              \
    }
TALLY_OF(int64_t)
TALLY_OF(int32_t)
TALLY_OF(int16_t)

static void NAMED(tally)(const void *labels, int kind, double ignore, int masks, double most, int64_t *counts, int64_t count) {
    switch (kind) {
    case FLOAT32:
        NAMED(tally_floats)(labels, ignore, masks, most, counts, count);
        break;
    case INT64:
        NAMED(tally_int64_t)(labels, (int64_t)ignore, masks, (int64_t)most, counts, count);
        break;
    case INT32:
        NAMED(tally_int32_t)(labels, (int64_t)ignore, masks, (int64_t)most, counts, count);
        break;
    case INT16:
        NAMED(tally_int16_t)(labels, (int64_t)ignore, masks, (int64_t)most, counts, count);
        break;
    default:
        NAMED(tally_bytes)(labels, (int64_t)ignore, masks, (int64_t)most, counts, count);
    }
}
#undef COUNT_ONE
#undef COUNT_ALL
#undef TALLY_OF
