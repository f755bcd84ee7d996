/* Loops over integer labels. */

static inline int64_t label_at(const char *data, int kind, int64_t i) {
    return kind == INT32 ? ((const int32_t *)data)[i] : ((const int64_t *)data)[i];
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
