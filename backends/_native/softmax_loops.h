/* Loops over the softmax of each pixel. See loops.h. */

static inline void NAMED(largest)(const float *z, int64_t z_step, float *largest, int64_t channels, int count) {
    for (int i = 0; i < count; i++) largest[i] = z[i];
    for (int64_t c = 1; c < channels; c++) {
        const float *row = z + c * z_step;
        /* Not <=: a NaN in either stays, and so every power of its pixel is NaN, as in the fallback. */
        for (int i = 0; i < count; i++) largest[i] = ((row[i] > largest[i]) | (row[i] != row[i])) ? row[i] : largest[i];
    }
}

/* Of one block: the largest of each pixel, exp of what is below it, and the sum of those, without that of channel `but` if it is
 * given: taken from the sum afterwards, a power of 1 would leave nothing of small ones. */
INLINED void NAMED(block)(const float *z, int64_t z_step, float *powers, int64_t powers_step, const int32_t *but, float *sum,
                          float *largest, int64_t channels, int count) {
    NAMED(largest)(z, z_step, largest, channels, count);
    for (int i = 0; i < count; i++) sum[i] = 0.0f;
    for (int64_t c = 0; c < channels; c++) {
        const float *row = z + c * z_step;
        const int32_t own = (int32_t)c;
        if (powers) {
            float *out = powers + c * powers_step;
            for (int i = 0; i < count; i++) {
                float power = NAMED(exp)(row[i] - largest[i]);
                out[i] = power;
                sum[i] += but && but[i] == own ? 0.0f : power;
            }
        } else {
            for (int i = 0; i < count; i++) {
                float power = NAMED(exp)(row[i] - largest[i]);
                sum[i] += but && but[i] == own ? 0.0f : power;
            }
        }
    }
}

/* The sum and the largest of each pixel. */
static void NAMED(softmax_sums)(const float *z, int64_t z_step, float *norm, float *top, int64_t channels, int64_t pixels) {
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        float largest[BLOCK], sum[BLOCK];
        NAMED(block)(z + start, z_step, NULL, 0, NULL, sum, largest, channels, count);
        memcpy(norm + start, sum, (size_t)count * sizeof(float));
        memcpy(top + start, largest, (size_t)count * sizeof(float));
    }
}

/* Of one block: logsumexp(z) - z[place], and with slopes, weights * (softmax(z) - onehot(place)). Written with the sum of the
 * other powers, r: log(1 + r) and -r / (1 + r) have all digits where a pixel is confident, log(sum) and p - 1 none. */
static inline void NAMED(cross_entropy_block)(const float *z, int64_t z_step, const int32_t *place, float *losses,
                                              const float *weights, float *slopes, int64_t slopes_step, int64_t channels,
                                              int count) {
    float largest[BLOCK], others[BLOCK], below[BLOCK];
    NAMED(block)(z, z_step, slopes, slopes_step, place, others, largest, channels, count);
    for (int i = 0; i < count; i++) below[i] = z[place[i] * z_step + i] - largest[i];
    for (int i = 0; i < count; i++) {
        float own = NAMED(exp)(below[i]);
        /* Below the largest another power is 1, and the sum of all no less. */
        losses[i] = NAMED(log1p_of_any)(others[i] + (own - 1.0f)) - below[i];
        below[i] = others[i] + own;
    }
    if (!slopes) return;
    for (int i = 0; i < count; i++) {
        below[i] = weights[i] / below[i];
        others[i] *= -below[i];
    }
    for (int64_t c = 0; c < channels; c++) {
        float *out = slopes + c * slopes_step;
        for (int i = 0; i < count; i++) out[i] *= below[i];
    }
    for (int i = 0; i < count; i++) slopes[place[i] * slopes_step + i] = others[i];
}

/* The same of all pixels. How many indices are out of range. */
static int64_t NAMED(cross_entropy)(const float *z, int64_t z_step, const void *index, int kind, float *losses,
                                    const float *weights, float *slopes, int64_t slopes_step, int64_t channels, int64_t pixels) {
    int64_t wrong = 0;
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        int32_t place[BLOCK];
        for (int i = 0; i < count; i++) {
            int64_t at = label_at(index, kind, start + i);
            int outside = (uint64_t)at >= (uint64_t)channels;
            wrong += outside;
            place[i] = outside ? 0 : (int32_t)at;
        }
        NAMED(cross_entropy_block)(z + start, z_step, place, losses + start, weights ? weights + start : NULL,
                                   slopes ? slopes + start : NULL, slopes_step, channels, count);
    }
    return wrong;
}

/* Of a block of labels: their channels, and the weights by which they count. How many of those that count have no channel. */
static inline int NAMED(weighed)(const void *labels, int kind, int64_t start, int64_t ignore, const float *by_class,
                                 int64_t channels, int32_t *place, float *weight, int count) {
    int32_t kept[BLOCK];
    int wrong = places_of(labels, kind, start, ignore, channels, place, kept, count);
    if (by_class)
        for (int i = 0; i < count; i++) weight[i] = kept[i] ? by_class[place[i]] : 0.0f;
    else
        for (int i = 0; i < count; i++) weight[i] = kept[i] ? 1.0f : 0.0f;
    return wrong;
}

/* The sum of those weights, added to `total`. */
static int64_t NAMED(weight_sum)(const void *labels, int kind, int64_t ignore, const float *by_class, int64_t channels,
                                 int64_t pixels, double *total) {
    int64_t wrong = 0;
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        int32_t place[BLOCK];
        float weight[BLOCK];
        wrong += NAMED(weighed)(labels, kind, start, ignore, by_class, channels, place, weight, count);
        *total += NAMED(sum)(weight, count);
    }
    return wrong;
}

/* The sum of logsumexp(z) - z[label] over the labels, each times its weight, added to `total`; with slopes, the derivative of each
 * times `share`. How many of the labels that count have no channel. */
static int64_t NAMED(plain_cross_entropy)(const float *z, int64_t z_step, const void *labels, int kind, int64_t ignore,
                                          const float *by_class, float share, float *slopes, int64_t slopes_step, int64_t channels,
                                          int64_t pixels, double *total) {
    int64_t wrong = 0;
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        float weight[BLOCK], shared[BLOCK], loss[BLOCK];
        int32_t place[BLOCK];
        wrong += NAMED(weighed)(labels, kind, start, ignore, by_class, channels, place, weight, count);
        for (int i = 0; i < count; i++) shared[i] = weight[i] * share;
        NAMED(cross_entropy_block)(z + start, z_step, place, loss, shared, slopes ? slopes + start : NULL, slopes_step, channels,
                                   count);
        /* A loss without weight may be infinite. */
        for (int i = 0; i < count; i++) loss[i] = weight[i] != 0.0f ? weight[i] * loss[i] : 0.0f;
        *total += NAMED(sum)(loss, count);
    }
    return wrong;
}

/* out = weights * p * (slope - sum p * slope) with p = softmax(z): from the gradient by the softmax that by its logits. `out`
 * may be `slope`. `powers` is room for a block, here and below. */
static void NAMED(through_softmax)(const float *z, int64_t z_step, const float *slope, int64_t slope_step, const float *weights,
                                   float *powers, float *out, int64_t out_step, int64_t channels, int64_t pixels) {
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        float largest[BLOCK], sum[BLOCK], mean[BLOCK];
        NAMED(block)(z + start, z_step, powers, BLOCK, NULL, sum, largest, channels, count);
        for (int i = 0; i < count; i++) mean[i] = 0.0f;
        for (int64_t c = 0; c < channels; c++) {
            const float *power = powers + c * BLOCK, *by = slope + c * slope_step + start;
            for (int i = 0; i < count; i++) mean[i] = FMA(power[i], by[i], mean[i]);
        }
        for (int i = 0; i < count; i++) {
            mean[i] /= sum[i];
            sum[i] = (weights ? weights[start + i] : 1.0f) / sum[i];
        }
        for (int64_t c = 0; c < channels; c++) {
            const float *power = powers + c * BLOCK, *by = slope + c * slope_step + start;
            float *to = out + c * out_step + start;
            for (int i = 0; i < count; i++) to[i] = power[i] * sum[i] * (by[i] - mean[i]);
        }
    }
}

/* The same, by the classes of the pixels: the gradient by the softmax of class c is by_class[c], and by_own[c] more at pixels of
 * that class. How many indices are out of range. */
static int64_t NAMED(through_softmax_by_class)(const float *z, int64_t z_step, const void *index, int kind, const float *by_class,
                                               const float *by_own, const float *weights, float *out, int64_t out_step,
                                               int64_t channels, int64_t pixels) {
    int64_t wrong = 0;
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        float largest[BLOCK], sum[BLOCK], mean[BLOCK], own[BLOCK];
        int64_t place[BLOCK];
        NAMED(block)(z + start, z_step, out + start, out_step, NULL, sum, largest, channels, count);
        for (int i = 0; i < count; i++) mean[i] = 0.0f;
        for (int64_t c = 0; c < channels; c++) {
            const float *power = out + c * out_step + start, by = by_class[c];
            for (int i = 0; i < count; i++) mean[i] = FMA(power[i], by, mean[i]);
        }
        for (int i = 0; i < count; i++) {
            int64_t at = label_at(index, kind, start + i);
            int outside = (uint64_t)at >= (uint64_t)channels;
            wrong += outside;
            place[i] = outside ? 0 : at;
            own[i] = out[place[i] * out_step + start + i] * by_own[place[i]];
        }
        for (int i = 0; i < count; i++) {
            mean[i] = (mean[i] + own[i]) / sum[i];
            sum[i] = weights[start + i] / sum[i];
        }
        for (int64_t c = 0; c < channels; c++) {
            float *to = out + c * out_step + start, by = by_class[c];
            for (int i = 0; i < count; i++) to[i] = to[i] * sum[i] * (by - mean[i]);
        }
        for (int i = 0; i < count; i++) out[place[i] * out_step + start + i] += own[i] * sum[i];
    }
    return wrong;
}

/* Adds up weights * softmax(z) over the pixels, class by class: of all pixels, and of those of the class; and their weights.
 * How many indices are out of range. */
static int64_t NAMED(softmax_totals)(const float *z, int64_t z_step, const void *index, int kind, const float *weights,
                                     float *powers, double *mass, double *overlap, double *counts, int64_t channels,
                                     int64_t pixels) {
    int64_t wrong = 0;
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        float largest[BLOCK], sum[BLOCK], p[BLOCK];
        NAMED(block)(z + start, z_step, powers, BLOCK, NULL, sum, largest, channels, count);
        for (int i = 0; i < count; i++) sum[i] = weights[start + i] / sum[i];
        for (int64_t c = 0; c < channels; c++) {
            const float *row = powers + c * BLOCK;
            for (int i = 0; i < count; i++) p[i] = row[i] * sum[i];
            mass[c] += NAMED(sum)(p, count);
        }
        for (int i = 0; i < count; i++) {
            int64_t at = label_at(index, kind, start + i);
            int outside = (uint64_t)at >= (uint64_t)channels;
            wrong += outside;
            if (outside) continue;
            overlap[at] += (double)(powers[at * BLOCK + i] * sum[i]);
            counts[at] += (double)weights[start + i];
        }
    }
    return wrong;
}

/* losses = logsumexp(z) - logsumexp(z where near); with slopes, their derivative times weights. With r the sum of the powers that
 * are not near and q those that are, log(1 + r / q) and -r / (q + r): see `cross_entropy_block`. */
static void NAMED(relaxed_cross_entropy)(const float *z, int64_t z_step, const uint8_t *near, int64_t near_step, float *losses,
                                         const float *weights, float *slopes, int64_t slopes_step, int64_t channels,
                                         int64_t pixels) {
    for (int64_t start = 0; start < pixels; start += BLOCK) {
        int count = (int)(pixels - start < BLOCK ? pixels - start : BLOCK);
        float largest[BLOCK], others[BLOCK], near_largest[BLOCK], near_sum[BLOCK];
        NAMED(largest)(z + start, z_step, largest, channels, count);
        for (int i = 0; i < count; i++) {
            near_largest[i] = -INFINITY;
            others[i] = near_sum[i] = 0.0f;
        }
        for (int64_t c = 0; c < channels; c++) {
            const float *row = z + c * z_step + start;
            const uint8_t *in = near + c * near_step + start;
            for (int i = 0; i < count; i++) {
                float larger = row[i] > near_largest[i] ? row[i] : near_largest[i];
                near_largest[i] = in[i] ? larger : near_largest[i];
            }
        }
        for (int64_t c = 0; c < channels; c++) {
            const float *row = z + c * z_step + start;
            const uint8_t *in = near + c * near_step + start;
            float room[BLOCK], *power = slopes ? slopes + c * slopes_step + start : room;
            for (int i = 0; i < count; i++) {
                power[i] = NAMED(exp)(row[i] - (in[i] ? near_largest[i] : largest[i]));
                near_sum[i] += in[i] ? power[i] : 0.0f;
                others[i] += in[i] ? 0.0f : power[i];
            }
        }
        for (int i = 0; i < count; i++) {
            /* Farther below, what is near adds nothing to the sum of all, and its power would be too small to divide by. */
            float below = near_largest[i] - largest[i], held = below < -60.0f ? -60.0f : below;
            float whole = near_sum[i] * NAMED(exp)(held);
            losses[start + i] = NAMED(log1p_of_any)(others[i] / whole) + (held - below);
            largest[i] = whole + others[i];
        }
        if (!slopes) continue;
        for (int i = 0; i < count; i++) {
            largest[i] = weights[start + i] / largest[i];
            near_sum[i] = -(others[i] * largest[i]) / near_sum[i];
        }
        for (int64_t c = 0; c < channels; c++) {
            const uint8_t *in = near + c * near_step + start;
            float *out = slopes + c * slopes_step + start;
            for (int i = 0; i < count; i++) out[i] *= in[i] ? near_sum[i] : largest[i];
        }
    }
}
