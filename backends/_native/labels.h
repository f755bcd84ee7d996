/* Loops over integer labels and what they look up. An index out of range is counted and read as 0. */

static inline int64_t label_at(const char *data, int kind, int64_t i) {
    return kind == INT32 ? ((const int32_t *)data)[i] : ((const int64_t *)data)[i];
}

/* x[index[i]][i] -= amount[i]; how many indices are out of range. */
static int64_t subtract_pixels(float *x, int64_t x_step, const char *index, int kind, const float *amount, int64_t channels,
                               int64_t pixels) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < pixels; i++) {
        int64_t at = label_at(index, kind, i);
        int outside = (uint64_t)at >= (uint64_t)channels;
        wrong += outside;
        if (!outside) x[at * x_step + i] -= amount[i];
    }
    return wrong;
}

/* sums[index[i]] += values[i]; how many indices are out of range. */
static int64_t add_to_classes(const float *values, const char *index, int kind, double *sums, int64_t channels, int64_t pixels) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < pixels; i++) {
        int64_t at = label_at(index, kind, i);
        int outside = (uint64_t)at >= (uint64_t)channels;
        wrong += outside;
        if (!outside) sums[at] += (double)values[i];
    }
    return wrong;
}

#define SPLIT(type)                                                                                                    \
    static void split_##type(const type *labels, int64_t ignore, int32_t *index, uint8_t *valid, int64_t count) {      \
        for (int64_t i = 0; i < count; i++) {                                                                          \
            int kept = (int64_t)labels[i] != ignore;                                                                   \
            valid[i] = (uint8_t)kept;                                                                                  \
            index[i] = kept ? (int32_t)labels[i] : 0;                                                                  \
        }                                                                                                              \
    }
SPLIT(int64_t)
SPLIT(int32_t)
SPLIT(int16_t)
SPLIT(uint8_t)
#undef SPLIT
