/* Loops over elements, each for itself. See loops.h. */

static void NAMED(softplus_and_sigmoid)(const float *x, float *above, float *rising, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float z = x[i], positive = z < 0.0f ? 0.0f : z; /* NaN stays */
        float power = NAMED(exp)(z < 0.0f ? z : -z);
        above[i] = positive + NAMED(log1p)(power);
        rising[i] = (z > 0.0f ? 1.0f : power) / (1.0f + power);
    }
}

static void NAMED(keep_where)(const uint8_t *RESTRICT mask, const float *RESTRICT x, float other, float *RESTRICT out, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[i] = mask[i] ? x[i] : other;
}

/* Labels as numbers. Where some are not counted, `masks` is 1, those are 0, and `kept` says of each whether it is. */
static inline const float *NAMED(targets)(const void *labels, int kind, int64_t start, double ignore, int *masks, float *y,
                                          float *kept, int count) {
    float wide[BLOCK];
    int skips = *masks, skipped_here = 0;
#define READ(type, wider)                                                                                              \
    {                                                                                                                  \
        const type *from = (const type *)labels + start;                                                               \
        const wider skipped = (wider)ignore;                                                                           \
        for (int i = 0; i < count; i++) {                                                                              \
            float number = (float)from[i];                                                                             \
            int counts = !skips | ((wider)from[i] != skipped);                                                         \
            skipped_here |= !counts;                                                                                   \
            kept[i] = counts ? 1.0f : 0.0f;                                                                            \
            y[i] = counts ? number : 0.0f;                                                                             \
        }                                                                                                              \
    }
    switch (kind) {
    case UINT16:
    case FLOAT16:
        labels = NAMED(floats)(labels, kind, start, wide, count);
        start = 0; /* fall through */
    case FLOAT32: {
        const float *from = (const float *)labels + start, skipped = (float)ignore;
        /* A number that no float32 is differs from all of them. */
        skips &= (double)skipped == ignore;
        for (int i = 0; i < count; i++) skipped_here |= from[i] == skipped;
        *masks = skips & skipped_here;
        if (*masks) {
            for (int i = 0; i < count; i++) {
                kept[i] = from[i] != skipped ? 1.0f : 0.0f;
                y[i] = from[i] != skipped ? from[i] : 0.0f;
            }
            return y;
        }
        if (labels != wide) return from;
        memcpy(y, wide, (size_t)count * sizeof *y);
        return y;
    }
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
    *masks = skipped_here;
    return y;
}

/* What is not counted becomes 0; the number of those. Afterwards: in the loop that computes it, it would make branches. */
static inline int NAMED(leave_out)(const float *RESTRICT kept, float *RESTRICT loss, float *RESTRICT slope, int count) {
    int left_out = 0;
    for (int i = 0; i < count; i++) {
        loss[i] = kept[i] != 0.0f ? loss[i] : 0.0f;
        slope[i] = kept[i] != 0.0f ? slope[i] : 0.0f;
        left_out += kept[i] == 0.0f;
    }
    return left_out;
}

/* A block of the loop below. `plain`, where all labels weigh the same and p is 1, is a constant where it is called. */
INLINED void NAMED(binary_block)(const float *RESTRICT z, const float *RESTRICT labels, const float *by, float *RESTRICT loss,
                                 float *RESTRICT slope, int count, int plain) {
    const float v = by[0], w = by[1], p = by[2], share = by[3];
    for (int i = 0; i < count; i++) {
        float x = z[i], y = labels[i], power = NAMED(exp)(-fabsf(x)), away = 1.0f - y, towards = plain ? y : p * y;
        /* (1 - y) softplus(z) + p y softplus(-z), of which no part takes digits from another. */
        float whole = x < 0.0f ? -towards : away, faded = x < 0.0f ? away : -towards, above = NAMED(log1p)(power);
        float weight = plain ? v : FMA(w, y, v * away);
        loss[i] = weight * (plain ? whole * x + above : FMA(away + towards, above, whole * x));
        slope[i] = share * weight * (FMA(faded, power, whole) / (1.0f + power));
    }
}

/* The sum of (v (1 - y) + w y) ((1 - y) z + (1 - y + p y) softplus(-z)) over the labels that count; with slopes, the derivative of
 * each term times a share. `by` is v, w, p and the share: v + (w - v) y would lose the digits of a w that is much the smaller. */
static double NAMED(binary_cross_entropy)(const void *z, int z_kind, const void *labels, int kind, double ignore,
                                          const float *by, void *slopes, int64_t count_all) {
    const int plain = by[0] == by[1] && by[2] == 1.0f;
    double total = 0.0;
    for (int64_t start = 0; start < count_all; start += BLOCK) {
        int count = (int)(count_all - start < BLOCK ? count_all - start : BLOCK), masks = 1;
        float room_for_y[BLOCK], kept[BLOCK], loss[BLOCK], wide[BLOCK], room[BLOCK];
        float *slope = NAMED(place)(slopes, z_kind, start, room);
        const float *numbers = NAMED(floats)(z, z_kind, start, wide, count);
        const float *y = NAMED(targets)(labels, kind, start, ignore, &masks, room_for_y, kept, count);
        if (plain)
            NAMED(binary_block)(numbers, y, by, loss, slope, count, 1);
        else
            NAMED(binary_block)(numbers, y, by, loss, slope, count, 0);
        if (masks) NAMED(leave_out)(kept, loss, slope, count);
        total += NAMED(sum)(loss, count);
        NAMED(round_block)(room, slopes, z_kind, start, count);
    }
    return total;
}

/* A block of the loop below. `squares` is a constant where it is called. */
INLINED void NAMED(difference_block)(const float *RESTRICT z, const float *RESTRICT y, float by, float *RESTRICT loss,
                                     float *RESTRICT slope, int count, int squares) {
    for (int i = 0; i < count; i++) {
        float d = z[i] - y[i], sign = d > 0.0f ? 1.0f : d; /* NaN stays */
        sign = d < 0.0f ? -1.0f : sign;
        loss[i] = squares ? d * d : fabsf(d);
        slope[i] = by * (squares ? 2.0f * d : sign);
    }
}

/* The sum of |z - y| or (z - y)^2 over the labels that count; with slopes, the derivative of each times `by`. How many do not count
 * is added to `left_out`. */
static double NAMED(differences)(const void *z, int z_kind, const void *labels, int kind, double ignore, int masks, int squares,
                                 float by, void *slopes, int64_t count_all, int64_t *left_out) {
    double total = 0.0;
    for (int64_t start = 0; start < count_all; start += BLOCK) {
        int count = (int)(count_all - start < BLOCK ? count_all - start : BLOCK), masked = masks;
        float room_for_y[BLOCK], kept[BLOCK], loss[BLOCK], wide[BLOCK], room[BLOCK];
        float *slope = NAMED(place)(slopes, z_kind, start, room);
        const float *numbers = NAMED(floats)(z, z_kind, start, wide, count);
        const float *y = NAMED(targets)(labels, kind, start, ignore, &masked, room_for_y, kept, count);
        if (squares)
            NAMED(difference_block)(numbers, y, by, loss, slope, count, 1);
        else
            NAMED(difference_block)(numbers, y, by, loss, slope, count, 0);
        if (masked) *left_out += NAMED(leave_out)(kept, loss, slope, count);
        total += NAMED(sum)(loss, count);
        NAMED(round_block)(room, slopes, z_kind, start, count);
    }
    return total;
}
